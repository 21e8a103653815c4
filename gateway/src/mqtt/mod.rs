//! The front door: MQTT 3.1.1 and 5 over the journal.
/// Checks that `hash` is an argon2id hash in PHC form.
/// # Errors
/// A text that says how to make one.
pub fn check_password_hash(hash: &str) -> Result<(), String> {
    if hash.starts_with("$argon2id$") {
        Ok(())
    } else {
        Err("print a hash with `headwater passwd`".into())
    }
}
