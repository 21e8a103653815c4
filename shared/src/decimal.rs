//! stand-in
/// d
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    /** m */
    pub mantissa: i64,
    /** s */
    pub scale: u8,
}
impl Decimal {
    /** f */
    pub fn to_f64(self) -> f64 {
        self.mantissa as f64 / 10f64.powi(i32::from(self.scale))
    }
}
impl core::fmt::Display for Decimal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.mantissa)
    }
}
