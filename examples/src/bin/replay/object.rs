//! What git's trees are made of: object ids, modes, and the entry that a path has in a tree.

use std::fmt;

use uuid::{Builder, Uuid};

/// An object's name: 20 bytes in a SHA-1 repository, 32 in a SHA-256 one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ObjectId {
    Sha1([u8; 20]),
    Sha256([u8; 32]),
}

impl ObjectId {
    /// Reads 40 or 64 hexadecimal digits, and nothing else.
    pub(crate) fn from_hex(digits: &[u8]) -> Option<Self> {
        match digits.len() {
            40 => decode_hex(digits).map(Self::Sha1),
            64 => decode_hex(digits).map(Self::Sha256),
            _ => None,
        }
    }

    /// The id of an envelope that stands for this object: a version 8 UUID from the first 16 bytes of its name.
    pub(crate) fn to_uuid(self) -> Uuid {
        let mut first = [0; 16];
        first.copy_from_slice(&self.as_bytes()[..16]);
        Builder::from_custom_bytes(first).into_uuid()
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha1(bytes) => bytes,
            Self::Sha256(bytes) => bytes,
        }
    }

    /// Git writes "no such object" as an id of zeros.
    fn is_null(&self) -> bool {
        self.as_bytes().iter().all(|&byte| byte == 0)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a tree holds under a path: a file, a symbolic link or a submodule, and which content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) mode: u32,
    pub(crate) blob: ObjectId,
}

impl Entry {
    /// Reads one side of a change: a mode and an id, both zero where the path does not exist.
    ///
    /// `None` if the two cannot be read, or there is an id without a mode. A null id with a mode is what a
    /// broken tree may have.
    pub(crate) fn from_side(mode: &[u8], blob: &[u8]) -> Option<Option<Self>> {
        let entry = Self::from_tree(mode, blob)?;
        match (entry.mode == 0, entry.blob.is_null()) {
            (true, true) => Some(None),
            (true, false) => None,
            (false, _) => Some(Some(entry)),
        }
    }

    /// Reads the six octal digits of a mode and the hexadecimal ones of an id.
    pub(crate) fn from_tree(mode: &[u8], blob: &[u8]) -> Option<Self> {
        let octal = mode.len() == 6 && mode.iter().all(|digit| (b'0'..=b'7').contains(digit));
        let mode = octal.then(|| {
            mode.iter()
                .fold(0, |mode, digit| (mode << 3) | u32::from(digit - b'0'))
        })?;
        Some(Self {
            mode,
            blob: ObjectId::from_hex(blob)?,
        })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06o} {}", self.mode, self.blob)
    }
}

/// Shows an entry, or that there is none.
pub(crate) fn describe(entry: &Option<Entry>) -> String {
    entry
        .as_ref()
        .map_or_else(|| "no file".to_owned(), Entry::to_string)
}

fn decode_hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (hex_digit(pair[0])? << 4) | hex_digit(pair[1])?;
    }
    Some(bytes)
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, ObjectId};

    const BLOB: &[u8] = b"579d99f23402e1a867f22ac726972ad4e54800d8";

    #[test]
    fn an_object_id_shows_the_digits_it_was_read_from() {
        let id = ObjectId::from_hex(BLOB).unwrap();
        assert_eq!(id.to_string().as_bytes(), BLOB);
        let long = "ab".repeat(32);
        assert_eq!(
            ObjectId::from_hex(long.as_bytes()).unwrap().to_string(),
            long
        );
    }

    #[test]
    fn an_object_id_of_another_length_or_alphabet_is_refused() {
        assert_eq!(ObjectId::from_hex(&BLOB[1..]), None);
        assert_eq!(ObjectId::from_hex(&[b'g'; 40]), None);
    }

    #[test]
    fn an_envelope_id_from_an_object_is_a_version_8_uuid() {
        let id = ObjectId::from_hex(BLOB).unwrap().to_uuid();
        assert_eq!(id.get_version_num(), 8);
        assert_eq!(id.to_string(), "579d99f2-3402-81a8-a7f2-2ac726972ad4");
    }

    #[test]
    fn a_side_exists_if_it_has_a_mode() {
        assert_eq!(Entry::from_side(b"000000", &[b'0'; 40]), Some(None));
        let broken = Entry::from_side(b"160000", &[b'0'; 40]).unwrap().unwrap();
        assert!(broken.blob.is_null());
        assert_eq!(Entry::from_side(b"000000", BLOB), None);
        assert_eq!(
            Entry::from_side(b"100644", BLOB).unwrap().unwrap().mode,
            0o100_644
        );
    }
}
