//! Finds the comments of a Rust file, which the parser throws away.
//!
//! Just enough of a lexer to tell a comment from a text that looks like one: strings, raw strings and characters are
//! stepped over, block comments nest. Doc comments are not comments here; they are prose that rustdoc reads.

/// A plain comment: a block, or a line without its slashes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Comment {
    /// Where it starts, from 1.
    pub line: usize,
    /// Its words.
    pub text: String,
}

/// All plain comments of a file, in order. A run of `//` lines is one comment each line.
pub fn plain_comments(text: &str) -> Vec<Comment> {
    let mut scan = Scan { bytes: text.as_bytes(), text, at: 0, found: Vec::new() };
    while scan.at < scan.bytes.len() {
        scan.step();
    }
    scan.found
}

/// Runs of `//` comments on neighbouring lines joined to one; block comments stand alone.
pub fn comment_runs(text: &str) -> Vec<Comment> {
    let mut runs: Vec<(Comment, usize)> = Vec::new();
    for comment in plain_comments(text) {
        match runs.last_mut() {
            Some((run, last)) if comment.line == *last + 1 => {
                run.text.push('\n');
                run.text.push_str(&comment.text);
                *last = comment.line;
            }
            _ => {
                let line = comment.line;
                runs.push((comment, line));
            }
        }
    }
    runs.into_iter().map(|(run, _)| run).collect()
}

struct Scan<'a> {
    bytes: &'a [u8],
    text: &'a str,
    at: usize,
    found: Vec<Comment>,
}

impl Scan<'_> {
    fn step(&mut self) {
        let rest = &self.bytes[self.at..];
        match rest[0] {
            b'/' if rest.starts_with(b"//") => self.line_comment(),
            b'/' if rest.starts_with(b"/*") => self.block_comment(),
            b'"' => self.string(),
            b'r' if self.starts_raw_string() => self.raw_string(),
            b'\'' => self.character(),
            _ => self.at += 1,
        }
    }

    fn line(&self) -> usize {
        1 + self.bytes[..self.at].iter().filter(|b| **b == b'\n').count()
    }

    fn line_comment(&mut self) {
        let rest = &self.text[self.at..];
        let body = rest.split('\n').next().unwrap_or_default();
        let is_doc = (body.starts_with("///") && !body.starts_with("////")) || body.starts_with("//!");
        if !is_doc {
            let text = body.trim_start_matches('/').trim().to_owned();
            self.found.push(Comment { line: self.line(), text });
        }
        self.at += body.len();
    }

    fn block_comment(&mut self) {
        let (start, line) = (self.at, self.line());
        let mut depth = 0_usize;
        while self.at < self.bytes.len() {
            let rest = &self.bytes[self.at..];
            if rest.starts_with(b"/*") {
                depth += 1;
                self.at += 2;
            } else if rest.starts_with(b"*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    break;
                }
            } else {
                self.at += 1;
            }
        }
        let whole = &self.text[start..self.at];
        if !whole.starts_with("/**") && !whole.starts_with("/*!") {
            let text = whole.trim_start_matches("/*").trim_end_matches("*/").trim().to_owned();
            self.found.push(Comment { line, text });
        }
    }

    fn string(&mut self) {
        self.at += 1;
        while self.at < self.bytes.len() {
            match self.bytes[self.at] {
                b'\\' => self.at += 2,
                b'"' => {
                    self.at += 1;
                    return;
                }
                _ => self.at += 1,
            }
        }
    }

    /// `r"` or `r#"`, and not the end of a longer word such as `for`; a raw word (`r#type`) is none.
    fn starts_raw_string(&self) -> bool {
        let before = self.at.checked_sub(1).map(|at| self.bytes[at]);
        let in_word = before.is_some_and(|b| (b.is_ascii_alphanumeric() && b != b'b') || b == b'_');
        let hashes = self.bytes[self.at + 1..].iter().take_while(|b| **b == b'#').count();
        !in_word && self.bytes.get(self.at + 1 + hashes) == Some(&b'"')
    }

    fn raw_string(&mut self) {
        let hashes = self.bytes[self.at + 1..].iter().take_while(|b| **b == b'#').count();
        let end = format!("\"{}", "#".repeat(hashes));
        let start = self.at + 2 + hashes;
        self.at = self.text[start..].find(&end).map_or(self.bytes.len(), |length| start + length + end.len());
    }

    /// A character literal, or the tick of a lifetime.
    fn character(&mut self) {
        let rest = &self.text[self.at + 1..];
        let mut chars = rest.chars();
        let (first, second) = (chars.next(), chars.next());
        self.at += match (first, second) {
            (Some('\\'), Some(escaped)) => {
                let after = 1 + escaped.len_utf8();
                1 + after + rest[after..].find('\'').map_or(0, |end| end + 1)
            }
            (Some(only), Some('\'')) => 2 + only.len_utf8(),
            _ => 1,
        };
    }
}
