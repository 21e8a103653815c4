//! The name in a client's certificate. It has been checked by then: a CA of ours has signed it.
//!
//! ```text
//! Certificate     30 len  tbs, algorithm, signature
//!   tbs           30 len  [A0 version] 02 serial 30 algorithm 30 issuer 30 validity
//!                         30 subject 30 public key [81] [82] [A3 extensions]
//!     subject     30 len  (31 len (30 len  06 type, text)+)*
//!     extensions  A3 len  30 len (30 len  06 id [01 critical] 04 value)*
//!       value of 2.5.29.17, the alternative names: 30 len (81 email | 82 DNS | 86 URI | ...)*
//! ```

/// Longer names are nobody's.
const NAME_BYTES_MAX: usize = 255;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const EXTENSIONS: u8 = 0xA3;
/// Texts that are ASCII or UTF-8: UTF8String, PrintableString, IA5String.
const TEXTS: [u8; 3] = [0x0C, 0x13, 0x16];

/// 2.5.29.17, subjectAltName.
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1D, 0x11];
/// 2.5.4.3, commonName.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// The kinds of alternative names that name a client, the first of the first kind wins.
const KINDS: [u8; 3] = [DNS, EMAIL, URI];
const EMAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const URI: u8 = 0x86;

/// The first DNS name, else e-mail address, else URI among the alternative names, else the common
/// name; none where none of these is there.
pub(super) fn client_name(certificate: &[u8]) -> Option<&str> {
    let mut tbs = inside(inside(certificate, SEQUENCE)?, SEQUENCE)?;
    let mut sequences = [&tbs[..0]; 5];
    let mut found = 0;
    let mut extensions = None;
    while let Some((tag, value)) = take(&mut tbs) {
        if tag == SEQUENCE && found < sequences.len() {
            sequences[found] = value;
            found += 1;
        } else if tag == EXTENSIONS {
            extensions = inside(value, SEQUENCE);
        }
    }
    let [_algorithm, _issuer, _validity, subject, _key] = sequences;
    extensions.and_then(alternative_name).or_else(|| common_name(subject))
}

fn alternative_name(mut extensions: &[u8]) -> Option<&str> {
    while let Some((SEQUENCE, mut extension)) = take(&mut extensions) {
        if take(&mut extension) != Some((OBJECT_ID, ALTERNATIVE_NAMES)) {
            continue;
        }
        while let Some((tag, value)) = take(&mut extension) {
            if tag == OCTETS {
                let names = inside(value, SEQUENCE)?;
                return KINDS.into_iter().find_map(|kind| first_of(names, kind));
            }
        }
    }
    None
}

fn first_of(mut names: &[u8], kind: u8) -> Option<&str> {
    while let Some((tag, value)) = take(&mut names) {
        if let Some(name) = as_name(value).filter(|_| tag == kind) {
            return Some(name);
        }
    }
    None
}

fn common_name(mut subject: &[u8]) -> Option<&str> {
    while let Some((SET, mut set)) = take(&mut subject) {
        while let Some((SEQUENCE, mut attribute)) = take(&mut set) {
            if take(&mut attribute) != Some((OBJECT_ID, COMMON_NAME)) {
                continue;
            }
            if let Some((tag, value)) = take(&mut attribute)
                && TEXTS.contains(&tag)
            {
                return as_name(value);
            }
        }
    }
    None
}

fn as_name(bytes: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(bytes).ok()?;
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains(char::is_control);
    fits.then_some(name)
}

/// What is in the value at the front, if it has this tag.
fn inside(mut bytes: &[u8], expected: u8) -> Option<&[u8]> {
    take(&mut bytes).and_then(|(tag, value)| (tag == expected).then_some(value))
}

/// Tag and content of the value at the front; the rest stays.
fn take<'a>(bytes: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7F => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x0F))?;
            let length = digits.iter().fold(0_usize, |sum, digit| sum << 8 | usize::from(*digit));
            (length, rest)
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some((tag, value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::string::Ia5String;
    use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, SanType};

    use super::*;

    fn certificate(names: &[SanType], common: Option<&str>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::OrganizationName, "Plant 7");
        if let Some(common) = common {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = names.to_vec();
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    fn text(text: &str) -> Ia5String {
        Ia5String::try_from(text).expect("ASCII")
    }

    #[test]
    fn an_alternative_name_goes_before_the_common_name() {
        let dns = SanType::DnsName(text("pump-7.plant.example"));
        let email = SanType::Rfc822Name(text("pump-7@plant.example"));
        let uri = SanType::URI(text("urn:device:pump-7"));
        let ip = SanType::IpAddress([10, 0, 0, 7].into());
        for (names, common, expected) in [
            (vec![], Some("Pumpe 7 ä"), Some("Pumpe 7 ä")),
            (vec![ip.clone()], Some("pump-7"), Some("pump-7")),
            (vec![uri.clone()], Some("other"), Some("urn:device:pump-7")),
            (vec![uri.clone(), email.clone()], None, Some("pump-7@plant.example")),
            (vec![ip, uri, email, dns], Some("other"), Some("pump-7.plant.example")),
            (vec![], None, None),
            (vec![], Some("with\nline"), None),
            (vec![], Some(""), None),
        ] {
            assert_eq!(client_name(&certificate(&names, common)), expected, "{names:?} {common:?}");
        }
    }

    #[test]
    fn a_certificate_that_is_cut_or_bent_has_a_name_or_none() {
        let whole = certificate(&[SanType::DnsName(text("a.example"))], Some("b"));
        for end in 0..whole.len() {
            let _ = client_name(&whole[..end]);
            for bit in 0..8 {
                let mut bent = whole.clone();
                bent[end] ^= 1 << bit;
                let _ = client_name(&bent);
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_name_or_none(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = client_name(&bytes);
        }
    }
}
