//! Whether a signing key looks like one: long, and not a word somebody left in an example.
//!
//! Nothing can prove a key random; what is refused here is what has been found in real deployments: placeholders,
//! repeated or ascending characters, short patterns. Words are at least five letters, so that a random key does not
//! contain one by chance.

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
/// A random key of 32 hexadecimal digits has fewer distinct ones about once in a million.
const DISTINCT_MIN: usize = 8;
const RUN_MAX: usize = 7;

/// What is wrong with a signing key, without repeating any of it.
pub(crate) fn weakness(key: &str) -> Option<String> {
    let bytes = key.as_bytes();
    if bytes.len() < KEY_BYTES_MIN {
        return Some(format!("is {} bytes long", bytes.len()));
    }
    let lower = key.to_ascii_lowercase();
    if let Some(word) = PLACEHOLDERS.iter().find(|word| lower.contains(*word)) {
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
}
