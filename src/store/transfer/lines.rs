//! Lines on their way: counted, summed up, and refused when anything is missing.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Write},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Entry, Header, SCHEMA, Trailer};
use crate::store::StoreError;

/// Longest line in bytes.
const LONGEST: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Line {
    schema: u16,
    #[serde(flatten)]
    entry: Entry,
}

/// Why an export or import did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A line that cannot be taken.
    #[error("line {number} of the export cannot be taken: {why}; nothing was imported")]
    Line {
        /// From 1.
        number: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The trailer is missing or does not fit.
    #[error("the export is not whole: {0}; nothing was imported, export it again")]
    NotWhole(&'static str),
    /// A newer version wrote it.
    #[error(
        "the export is of format {found}, this version knows up to {SCHEMA}: import it with the newer version"
    )]
    Newer {
        /// The number in it.
        found: u16,
    },
    /// The file or pipe.
    #[error("the export cannot be written or read: {0}")]
    Io(#[from] io::Error),
}

/// Writes lines.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    hash: Sha256,
    counts: BTreeMap<String, u64>,
}

impl<W: Write> Writer<W> {
    /// Begins an export.
    ///
    /// # Errors
    /// The output's.
    pub fn begin(out: W, header: Header) -> io::Result<Self> {
        let mut writer = Self { out, hash: Sha256::new(), counts: BTreeMap::new() };
        writer.put(Entry::Header(header))?;
        Ok(writer)
    }

    /// Writes a line.
    ///
    /// # Errors
    /// The output's.
    pub fn put(&mut self, entry: Entry) -> io::Result<()> {
        *self.counts.entry(entry.kind().to_owned()).or_default() += 1;
        let line = line(entry)?;
        self.hash.update(&line);
        self.out.write_all(&line)
    }

    /// Writes the trailer: now the export is whole. Lines by kind, without the header.
    ///
    /// # Errors
    /// The output's.
    pub fn end(mut self) -> io::Result<BTreeMap<String, u64>> {
        let sha256 = hex::encode(self.hash.finalize());
        let trailer = Trailer { counts: self.counts.clone(), sha256 };
        self.out.write_all(&line(Entry::Trailer(trailer))?)?;
        self.out.flush()?;
        self.counts.remove("header");
        Ok(self.counts)
    }
}

fn line(entry: Entry) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&Line { schema: SCHEMA, entry })?;
    line.push(b'\n');
    Ok(line)
}

/// Reads lines.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    hash: Sha256,
    counts: BTreeMap<String, u64>,
    number: u64,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// What is no export, or one of a newer version.
    pub fn begin(input: R) -> Result<(Header, Self), TransferError> {
        let mut reader = Self { input, hash: Sha256::new(), counts: BTreeMap::new(), number: 0 };
        match reader.read()? {
            Some(Entry::Header(header)) => Ok((header, reader)),
            _ => Err(reader.refuse("it is no header")),
        }
    }

    /// The next line; none after a trailer that fits.
    ///
    /// # Errors
    /// A line that is none, or an end without a trailer that fits.
    pub fn read(&mut self) -> Result<Option<Entry>, TransferError> {
        let mut line = Vec::new();
        io::Read::take(&mut self.input, LONGEST).read_until(b'\n', &mut line)?;
        self.number += 1;
        if line.last() != Some(&b'\n') {
            return Err(TransferError::NotWhole("it ends before its last line"));
        }
        #[derive(Deserialize)]
        struct Numbered {
            schema: u16,
        }
        match serde_json::from_slice::<Numbered>(&line) {
            Ok(Numbered { schema }) if schema > SCHEMA => return Err(TransferError::Newer { found: schema }),
            Ok(_) => {}
            Err(_) => return Err(self.refuse("it is no line of an export")),
        }
        let Line { entry, .. } =
            serde_json::from_slice(&line).map_err(|error| self.refuse(&error.to_string()))?;
        if let Entry::Trailer(trailer) = entry {
            return self.close(&trailer).map(|()| None);
        }
        *self.counts.entry(entry.kind().to_owned()).or_default() += 1;
        self.hash.update(&line);
        Ok(Some(entry))
    }

    /// Says that the line which was read last cannot be taken.
    pub fn refuse(&self, why: &str) -> TransferError {
        TransferError::Line { number: self.number, why: why.to_owned() }
    }

    fn close(&mut self, trailer: &Trailer) -> Result<(), TransferError> {
        let hash = std::mem::take(&mut self.hash);
        if trailer.counts != self.counts || trailer.sha256 != hex::encode(hash.finalize()) {
            return Err(TransferError::NotWhole("its lines are not those that its trailer counted"));
        }
        match self.input.fill_buf()?.is_empty() {
            true => Ok(()),
            false => Err(TransferError::NotWhole("something follows its trailer")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lifecycle::{Millis, Reservation},
        store::transfer::{Content, Kept},
    };

    fn export() -> Vec<u8> {
        let mut out = Vec::new();
        let header = Header { version: "1".into(), at: Millis(5), moved: false };
        let mut writer = Writer::begin(&mut out, header).unwrap();
        writer.put(Entry::Booked(Reservation { day: 3, credits: u64::MAX })).unwrap();
        let secret = Content::from([0xff, 0].as_slice());
        writer.put(Entry::Kept(Kept { name: "s".into(), secret })).unwrap();
        writer.end().unwrap();
        out
    }

    fn read(export: &[u8]) -> Result<Vec<Entry>, TransferError> {
        let (_, mut reader) = Reader::begin(export)?;
        let mut entries = Vec::new();
        while let Some(entry) = reader.read()? {
            entries.push(entry);
        }
        Ok(entries)
    }

    #[test]
    fn what_was_written_is_read_and_bytes_that_are_no_text_survive() {
        let entries = read(&export()).unwrap();
        assert_eq!(entries[0], Entry::Booked(Reservation { day: 3, credits: u64::MAX }));
        let Entry::Kept(kept) = &entries[1] else { panic!("{entries:?}") };
        assert_eq!(kept.secret.bytes(), Some(vec![0xff, 0]));
        assert!(!format!("{kept:?}").contains("/wA="), "a secret is not shown");
    }

    #[test]
    fn an_export_that_is_cut_changed_or_continued_is_noticed() {
        let whole = export();
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut]).is_err(), "cut at {cut}");
        }
        let text = String::from_utf8(whole.clone()).unwrap();
        assert!(matches!(
            read(text.replace("\"day\":3", "\"day\":4").as_bytes()),
            Err(TransferError::NotWhole(_))
        ));
        let lines: Vec<_> = text.lines().collect();
        let without = [lines[0], lines[2], lines[3], ""].join("\n");
        assert!(matches!(read(without.as_bytes()), Err(TransferError::NotWhole(_))));
        assert!(matches!(read(&[&whole[..], b"\n"].concat()), Err(TransferError::NotWhole(_))));
        let newer = text.replacen("\"schema\":1", "\"schema\":2", 1);
        assert!(matches!(read(newer.as_bytes()), Err(TransferError::Newer { found: 2 })));
    }
}
