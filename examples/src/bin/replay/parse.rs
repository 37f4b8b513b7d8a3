//! A parser for `git log --raw -z` with the commit's hash and author time as the format, and for `git ls-tree -z`.
//!
//! ```text
//! log    = commit*
//! commit = hash ' ' [author-time] NUL [ LF change+ ]
//! change = ':' mode ' ' mode ' ' hash ' ' hash ' ' status NUL path NUL
//! tree   = ( mode ' ' kind ' ' hash TAB path NUL )*
//! ```
//!
//! A commit that changes nothing has no line feed. What follows a commit's NUL is never ambiguous: a line feed or a
//! colon begins changes, a hexadecimal digit the next commit. A path is whatever bytes come before the next NUL, so
//! spaces, quotes, line feeds and bytes outside of UTF-8 need no care.

use std::io::BufRead;

use crate::error::MalformedOutput;
use crate::object::{Entry, ObjectId};

/// One commit and the paths it changes, compared with its first parent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) id: ObjectId,
    /// Seconds since 1970, unless the commit's author line is too damaged for git to read.
    pub(crate) author_time: Option<i64>,
    pub(crate) changes: Vec<Change>,
}

/// What a commit did to one path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) path: Vec<u8>,
    pub(crate) before: Option<Entry>,
    pub(crate) after: Option<Entry>,
}

/// Reads commits one by one; memory is bounded by the largest commit.
#[derive(Debug)]
pub(crate) struct LogParser<R> {
    tokens: Tokens<R>,
}

impl<R: BufRead> LogParser<R> {
    pub(crate) fn new(source: R) -> Self {
        Self {
            tokens: Tokens::new("log", source),
        }
    }

    /// The next commit with all its changes, or `None` where the output ends between two commits.
    pub(crate) fn next_commit(&mut self) -> Result<Option<Commit>, MalformedOutput> {
        let Some((id, author_time)) = self.header()? else {
            return Ok(None);
        };
        let mut changes = Vec::new();
        if self.tokens.peek()? == Some(b'\n') {
            self.tokens.skip_one();
            if self.tokens.peek()? != Some(b':') {
                return Err(self.tokens.unexpected_next("change"));
            }
        }
        while self.tokens.peek()? == Some(b':') {
            changes.push(self.change()?);
        }
        Ok(Some(Commit {
            id,
            author_time,
            changes,
        }))
    }

    fn header(&mut self) -> Result<Option<(ObjectId, Option<i64>)>, MalformedOutput> {
        if self.tokens.peek()?.is_none() {
            return Ok(None);
        }
        let header = self.tokens.next("a commit")?;
        let parsed = header
            .iter()
            .position(|&byte| byte == b' ')
            .and_then(|space| {
                let id = ObjectId::from_hex(&header[..space])?;
                let time = str::from_utf8(&header[space + 1..]).ok()?;
                // A time that no calendar has is shown by nobody, and is no reason to refuse the history.
                let digits = time.strip_prefix('-').unwrap_or(time);
                let is_number = digits.bytes().all(|digit| digit.is_ascii_digit());
                is_number.then(|| (id, time.parse().ok()))
            });
        parsed
            .map(Some)
            .ok_or_else(|| self.tokens.unexpected("commit"))
    }

    fn change(&mut self) -> Result<Change, MalformedOutput> {
        let record = self.tokens.next("a change")?;
        let sides = sides(record);
        let (before, after) = sides.ok_or_else(|| self.tokens.unexpected("change"))?;
        let path = self.tokens.next("a path")?;
        if path.is_empty() {
            return Err(self.tokens.unexpected("path"));
        }
        Ok(Change {
            path: path.to_vec(),
            before,
            after,
        })
    }
}

/// Reads `:mode mode hash hash status`; renames and copies, which would have two paths, are refused.
fn sides(record: &[u8]) -> Option<(Option<Entry>, Option<Entry>)> {
    let mut fields = record.strip_prefix(b":")?.split(|&byte| byte == b' ');
    let mut field = || fields.next();
    let (mode_before, mode_after) = (field()?, field()?);
    let (blob_before, blob_after) = (field()?, field()?);
    let known = matches!(field()?, b"A" | b"D" | b"M" | b"T");
    let complete = known && field().is_none();
    complete.then_some((
        Entry::from_side(mode_before, blob_before)?,
        Entry::from_side(mode_after, blob_after)?,
    ))
}

/// Reads the entries of a tree one by one.
#[derive(Debug)]
pub(crate) struct TreeParser<R> {
    tokens: Tokens<R>,
}

impl<R: BufRead> TreeParser<R> {
    pub(crate) fn new(source: R) -> Self {
        Self {
            tokens: Tokens::new("ls-tree", source),
        }
    }

    /// The next path and its entry, or `None` at the end of the tree.
    pub(crate) fn next_entry(&mut self) -> Result<Option<(&[u8], Entry)>, MalformedOutput> {
        if self.tokens.peek()?.is_none() {
            return Ok(None);
        }
        self.tokens.next("an entry")?;
        let record = self.tokens.current();
        match tree_entry(record) {
            Some(entry) => Ok(Some(entry)),
            None => Err(self.tokens.unexpected("entry")),
        }
    }
}

fn tree_entry(record: &[u8]) -> Option<(&[u8], Entry)> {
    let tab = record.iter().position(|&byte| byte == b'\t')?;
    let mut fields = record[..tab].split(|&byte| byte == b' ');
    let (mode, _kind, blob) = (fields.next()?, fields.next()?, fields.next()?);
    let path = &record[tab + 1..];
    (fields.next().is_none() && !path.is_empty()).then_some((path, Entry::from_tree(mode, blob)?))
}

/// Splits output at its NULs and knows how far it has come.
#[derive(Debug)]
struct Tokens<R> {
    command: &'static str,
    source: R,
    token: Vec<u8>,
    /// Where the current token begins.
    start: u64,
    /// Where the next one begins.
    position: u64,
}

impl<R: BufRead> Tokens<R> {
    fn new(command: &'static str, source: R) -> Self {
        Self {
            command,
            source,
            token: Vec::new(),
            start: 0,
            position: 0,
        }
    }

    /// The byte that comes next, or `None` at the end.
    fn peek(&mut self) -> Result<Option<u8>, MalformedOutput> {
        loop {
            match self.source.fill_buf() {
                Ok(bytes) => return Ok(bytes.first().copied()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.unreadable(source)),
            }
        }
    }

    /// Passes over the byte that was peeked at.
    fn skip_one(&mut self) {
        self.source.consume(1);
        self.position += 1;
    }

    /// The bytes up to the next NUL, which must be there.
    fn next(&mut self, inside: &'static str) -> Result<&[u8], MalformedOutput> {
        self.token.clear();
        self.start = self.position;
        match self.source.read_until(0, &mut self.token) {
            Ok(read) => self.position += read as u64,
            Err(source) => return Err(self.unreadable(source)),
        }
        if self.token.pop_if(|last| *last == 0).is_some() {
            Ok(&self.token)
        } else {
            let Self {
                command, position, ..
            } = *self;
            Err(MalformedOutput::Truncated {
                command,
                position,
                inside,
            })
        }
    }

    /// The token that was read last.
    fn current(&self) -> &[u8] {
        &self.token
    }

    #[cold]
    fn unreadable(&self, source: std::io::Error) -> MalformedOutput {
        MalformedOutput::Unreadable {
            command: self.command,
            position: self.position,
            source,
        }
    }

    #[cold]
    fn unexpected(&self, expected: &'static str) -> MalformedOutput {
        let found = self.token.escape_ascii().to_string();
        MalformedOutput::Unexpected {
            command: self.command,
            position: self.start,
            expected,
            found,
        }
    }

    #[cold]
    fn unexpected_next(&mut self, expected: &'static str) -> MalformedOutput {
        match self.next(expected) {
            Ok(_) => self.unexpected(expected),
            Err(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Commit, LogParser, TreeParser};
    use crate::error::MalformedOutput;

    const COMMIT: &str = "9d1e619ff359b6e609b02f01e36952e603104bc6";
    const BLOB: &str = "579d99f23402e1a867f22ac726972ad4e54800d8";
    const NULL: &str = "0000000000000000000000000000000000000000";

    fn commits(output: &[u8]) -> Result<Vec<Commit>, MalformedOutput> {
        let mut parser = LogParser::new(output);
        std::iter::from_fn(|| parser.next_commit().transpose()).collect()
    }

    fn two_commits() -> Vec<u8> {
        let mut output = format!("{COMMIT} 12\0{COMMIT} -3\0\n:000000 100644 {NULL} {BLOB} A\0");
        output.push_str("a \"b\"\n:c\0");
        let mut output = output.into_bytes();
        output.extend_from_slice(format!(":120000 000000 {BLOB} {NULL} D\0").as_bytes());
        output.extend_from_slice(b"\xff\0");
        output
    }

    #[test]
    fn commits_with_and_without_changes_are_read() {
        let commits = commits(&two_commits()).unwrap();
        assert_eq!(commits.len(), 2);
        assert!(commits[0].changes.is_empty());
        assert_eq!(commits[1].author_time, Some(-3));
        assert_eq!(commits[1].changes[0].path, b"a \"b\"\n:c");
        assert_eq!(commits[1].changes[0].before, None);
        assert_eq!(commits[1].changes[1].path, b"\xff");
        assert_eq!(commits[1].changes[1].after, None);
    }

    #[test]
    fn every_cut_inside_a_record_is_reported_with_its_position() {
        let output = two_commits();
        let mut whole = 0;
        for cut in 0..output.len() {
            match commits(&output[..cut]) {
                Ok(_) => whole += 1,
                Err(MalformedOutput::Truncated { position, .. }) => {
                    assert_eq!(position, cut as u64);
                }
                Err(other) => panic!("cut at {cut}: {other}"),
            }
        }
        // Nothing at all, one commit, two commits without changes, and all but the last change: no parser can tell.
        assert_eq!(whole, 4);
    }

    #[test]
    fn output_with_another_grammar_is_refused() {
        for output in ["warning: no\0", ":000000\0a\0", "\0", "\n"] {
            assert!(commits(output.as_bytes()).is_err(), "{output:?}");
        }
        let renamed = format!("{COMMIT} 1\0\n:100644 100644 {BLOB} {BLOB} R100\0a\0b\0");
        assert!(matches!(
            commits(renamed.as_bytes()),
            Err(MalformedOutput::Unexpected { position: 44, .. })
        ));
    }

    #[test]
    fn tree_entries_are_read() {
        let output = format!("160000 commit {BLOB}\tlib/a\tb\0100755 blob {BLOB}\tc\0");
        let mut parser = TreeParser::new(output.as_bytes());
        let (path, entry) = parser.next_entry().unwrap().unwrap();
        assert_eq!((path, entry.mode), (b"lib/a\tb".as_slice(), 0o160_000));
        assert_eq!(parser.next_entry().unwrap().unwrap().0, b"c");
        assert!(parser.next_entry().unwrap().is_none());
    }
}
