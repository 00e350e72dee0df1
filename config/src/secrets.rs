//! Whether a signing key looks like one, and whether a password is one that somebody left in an example.
//!
//! Nothing can prove a key random; what is refused here is what has been found in real deployments: placeholders,
//! repeated or ascending characters, short patterns. Words are at least five letters, so that a random key does not
//! contain one by chance. Passwords may be chosen by people and may stand inside a URL; of them only placeholders and the
//! names that images and tutorials are shipped with are refused.

/// The shortest key that is accepted, in bytes: the width of the HMAC it keys.
pub(crate) const KEY_BYTES_MIN: usize = 32;

const PLACEHOLDERS: &[&str] = &[
    "change",
    "secret",
    "your_",
    "your-",
    "example",
    "default",
    "password",
    "placeholder",
    "insecure",
    "replace",
    "qwerty",
    "12345678",
    "sample",
];
/// Whole passwords that images, packages and tutorials come with.
const SHIPPED: &[&str] = &["admin", "guest", "nexus", "postgres", "redis", "root", "test"];
/// A random key of 32 hexadecimal digits has fewer distinct ones about once in a million.
const DISTINCT_MIN: usize = 8;
const RUN_MAX: usize = 7;

/// What is wrong with a signing key, without repeating any of it.
pub(crate) fn weakness(key: &str) -> Option<String> {
    let bytes = key.as_bytes();
    if bytes.len() < KEY_BYTES_MIN {
        return Some(format!("is {} bytes long", bytes.len()));
    }
    if let Some(word) = placeholder(key) {
        return Some(format!("looks like a placeholder (it contains {word:?})"));
    }
    let mut distinct = bytes.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < DISTINCT_MIN {
        return Some(format!("has only {} different characters", distinct.len()));
    }
    if bytes.chunk_by(|a, b| a == b).any(|run| run.len() > RUN_MAX) {
        return Some("repeats one character".into());
    }
    if (1..=bytes.len() / 2).any(|period| bytes[period..].iter().zip(bytes).all(|(a, b)| a == b)) {
        return Some("repeats a pattern".into());
    }
    let steps = |up: u8| bytes.windows(2).filter(|w| w[0].checked_add(up) == Some(w[1])).count();
    let falling = bytes.windows(2).filter(|w| w[1].checked_add(1) == Some(w[0])).count();
    if steps(1).max(falling) * 2 > bytes.len() {
        return Some("counts through the alphabet".into());
    }
    None
}

/// What is wrong with a password, without repeating any of it but a placeholder's word.
pub(crate) fn password_weakness(password: &str) -> Option<String> {
    if SHIPPED.iter().any(|shipped| shipped.eq_ignore_ascii_case(password)) {
        return Some("is a password that everybody knows".into());
    }
    placeholder(password).map(|word| format!("looks like a placeholder (it contains {word:?})"))
}

/// The password inside a URL, where there is one: before the host, or as a parameter as PostgreSQL has it.
pub(crate) fn url_password(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let before_host =
        authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':')).map(|(_, password)| password);
    let query =
        rest.split('#').next().and_then(|text| text.split_once('?')).map(|(_, query)| query).unwrap_or_default();
    let parameter = query.split('&').find_map(|pair| pair.strip_prefix("password="));
    parameter.or(before_host).filter(|password| !password.is_empty()).map(percent_decoded)
}

fn placeholder(text: &str) -> Option<&'static str> {
    let lower = text.to_ascii_lowercase();
    PLACEHOLDERS.iter().find(|word| lower.contains(*word)).copied()
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digits = text.get(at + 1..at + 3).filter(|_| byte == b'%');
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_keys_are_refused_and_random_ones_are_not() {
        let table = [
            ("", "is 0 bytes"),
            ("9f8e7d6c5b4a39281706f5e4d3c2b1", "is 30 bytes"),
            ("change-me-change-me-change-me-now!", "change"),
            ("YOUR_KEY_GOES_HERE_9f8e7d6c5b4a3928", "your_"),
            ("super-SECRET-key-for-development-1", "secret"),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "different characters"),
            ("9f8e7d6c5b4a39281706aaaaaaaaaaaa", "repeats one character"),
            ("9f8e7d6c5b4a39289f8e7d6c5b4a39289f", "repeats a pattern"),
            ("abcdefghijklmnopqrstuvwxyzabcdef", "alphabet"),
            ("zyxwvutsrqponmlkjihgfedcbazyxwvuts", "alphabet"),
        ];
        for (key, expected) in table {
            let found = weakness(key).unwrap_or_default();
            assert!(found.contains(expected), "{key}: {found}");
        }
        for key in ["a3f1c09b7e5d2846f0b1c2d3e4a59687", "kJ8s2Lq0xW5vT7nB3mZ9cR1yH6gD4fPa", "öäü€ß¥©®™×÷±αβγδε"]
        {
            assert_eq!(weakness(key), None, "{key}");
        }
    }

    #[test]
    fn default_looking_passwords_are_refused_and_others_are_not() {
        for password in ["change-me-database-password", "Password1!", "POSTGRES", "nexus", "my_secret", "Example-1!"] {
            assert!(password_weakness(password).is_some(), "{password}");
        }
        for password in ["a3f1c09b7e5d2846", "G1ven-by-hand", "kJ8s2Lq0xW5v", "postgres-of-7f3a"] {
            assert_eq!(password_weakness(password), None, "{password}");
        }
    }

    #[test]
    fn the_password_inside_a_url_is_found() {
        let table = [
            ("postgres://u@h/d", None),
            ("postgres://u:@h/d", None),
            ("postgres://h/d?user=u:x@y", None),
            ("postgres://u:p%40ss%2@h:1/d", Some("p@ss%2")),
            ("postgres://u@h/d?sslmode=require&password=p%C3%B6", Some("pö")),
            ("postgres://u:a@h/d?password=b", Some("b")),
            ("redis://:p@h:6379/0", Some("p")),
            ("rediss://h", None),
        ];
        for (url, expected) in table {
            assert_eq!(url_password(url).as_deref(), expected, "{url}");
        }
    }
}
