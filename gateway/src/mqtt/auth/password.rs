//! Passwords and their argon2id hashes.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2};

/// Takes some 20 MB and tens of ms: for a thread of its own.
pub(super) fn verify(password: &[u8], hash: &str) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
}

/// Checks that `hash` is an argon2id hash in PHC form.
///
/// # Errors
/// A text that says how to make one.
pub fn check_password_hash(hash: &str) -> Result<(), String> {
    let remedy = "print one with `headwater passwd`";
    match PasswordHash::new(hash) {
        Err(problem) => Err(format!("not a password hash ({problem}): {remedy}")),
        Ok(parsed) if parsed.algorithm.as_str() != Algorithm::Argon2id.ident().as_str() => {
            Err(format!("a hash by {}, argon2id is needed: {remedy}", parsed.algorithm))
        }
        Ok(parsed) if parsed.hash.is_none() || parsed.salt.is_none() => {
            Err(format!("a hash without its salt or its end: {remedy}"))
        }
        Ok(_) => Ok(()),
    }
}

/// The argon2id hash of a password in PHC form, with a salt of its own.
///
/// # Errors
/// A text, where the machine gives no random numbers or the password is longer than 4 GiB.
pub fn hash_password(password: &str) -> Result<String, String> {
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|problem| format!("no hash could be made: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_argon2id_hash_says_how_to_make_one() {
        for hash in ["geheim", "$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g", "$argon2id$"] {
            let problem = check_password_hash(hash).expect_err(hash);
            assert!(problem.contains("headwater passwd"), "{problem}");
        }
    }

    #[test]
    fn a_password_fits_its_own_hash_only() {
        let hash = hash_password("geheim").expect("a hash");
        assert_eq!(check_password_hash(&hash), Ok(()));
        assert!(verify(b"geheim", &hash) && !verify(b"falsch", &hash));
    }
}
