//! Is it a video, and is it whole? Judged by content, since the content type is only a claim.
//!
//! An MP4 file is a row of boxes that say their own lengths. Walking over them while they stream by tells whether the
//! file ends where its last box ends, which is the only way to notice a cut when the server told no length.

use mp4_atom::{Buf, DecodeAtom, DecodeMaybe, FourCC, Header, Mvhd, Tkhd};

/// How many of the first bytes are enough to recognise a file. Matroska's document type is within 256.
pub(super) const SNIFF_LEN: usize = 512;

/// A `moov` box beyond this is skipped: an hour of video has about 4 MiB.
const MAX_MOOV: u64 = 16 << 20;

/// The containers that are taken for a video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    Mp4,
    QuickTime,
    WebM,
    Matroska,
}

impl Container {
    /// The file name extension.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::QuickTime => "mov",
            Self::WebM => "webm",
            Self::Matroska => "mkv",
        }
    }

    /// The media type.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Mp4 => "video/mp4",
            Self::QuickTime => "video/quicktime",
            Self::WebM => "video/webm",
            Self::Matroska => "video/x-matroska",
        }
    }

    /// Recognises a file by its first [`SNIFF_LEN`] bytes, or says what it is instead.
    pub(super) fn sniff(head: &[u8]) -> Result<Self, String> {
        let known = infer::get(head);
        match known.map(|kind| kind.mime_type()) {
            Some("video/mp4" | "video/x-m4v") => Ok(Self::Mp4),
            Some("video/quicktime") => Ok(Self::QuickTime),
            Some("video/webm") => Ok(Self::WebM),
            Some("video/x-matroska") => Ok(Self::Matroska),
            Some(other) => Err(format!("it is {other}")),
            // A brand that the list of known ones does not have yet.
            None if head.get(4..8) == Some(b"ftyp") => Ok(Self::Mp4),
            None if head.is_empty() => Err("it is empty".to_owned()),
            None => Err(describe_text(head)),
        }
    }

    /// Whether the file is a row of ISO boxes.
    pub(super) fn has_boxes(self) -> bool {
        matches!(self, Self::Mp4 | Self::QuickTime)
    }
}

/// How long a Matroska or WebM file is at least: where its segment ends, if a writer that could go back has filled that
/// in. The segment follows the EBML header, so the first bytes tell.
pub(super) fn matroska_length(head: &[u8]) -> Option<u64> {
    let after_header = element_end(head, 0, &[0x1a, 0x45, 0xdf, 0xa3])?;
    element_end(head, after_header, &[0x18, 0x53, 0x80, 0x67])
}

/// Where the EBML element with the given id ends that begins at `start` (RFC 8794); `None` if there is no such element
/// or its size is left open.
fn element_end(head: &[u8], start: u64, id: &[u8; 4]) -> Option<u64> {
    let element = head.get(usize::try_from(start).ok()?..)?.strip_prefix(id)?;
    let len = element.first()?.leading_zeros() as usize + 1;
    let size = element.get(..len).filter(|size| size.len() <= 8)?;
    let value = size.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    let all_ones = (1u64 << (7 * len)) - 1;
    let value = value & all_ones;
    (value != all_ones).then(|| start + (id.len() + len) as u64 + value)
}

fn describe_text(head: &[u8]) -> String {
    match head.trim_ascii_start().first() {
        Some(b'{' | b'[') => "it is JSON or other text".to_owned(),
        Some(b'<') => "it is XML or HTML".to_owned(),
        _ if head.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) => "it is text".to_owned(),
        _ => "its first bytes are of no known video container".to_owned(),
    }
}

/// What the header of a video says about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) duration_ms: Option<u64>,
    pub(super) width: Option<u32>,
    pub(super) height: Option<u32>,
}

/// How a walk ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The last box ends with the file.
    Whole(Facts),
    /// The last box extends to the end of the file, wherever that is: whole if the transfer was.
    Open(Facts),
    /// The file ends inside a box: it was cut.
    Cut(String),
    /// It is no playable MP4 file.
    Broken(String),
}

/// Walks over the boxes of an MP4 file as its bytes stream by.
#[derive(Debug, Default)]
pub(super) struct BoxWalk {
    /// The bytes of a box header that is not complete yet.
    header: Vec<u8>,
    /// The box whose payload streams by, and how much of it is to come; `None` if it extends to the end.
    inside: Option<(FourCC, Option<u64>)>,
    seen_ftyp: bool,
    seen_mdat: bool,
    seen_moov: bool,
    moov: Vec<u8>,
}

const FTYP: FourCC = FourCC::new(b"ftyp");
const MOOV: FourCC = FourCC::new(b"moov");
const MDAT: FourCC = FourCC::new(b"mdat");

impl BoxWalk {
    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// Why this is no MP4 file.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            match self.inside {
                None => {
                    self.header.push(bytes[0]);
                    bytes = &bytes[1..];
                    self.enter_if_complete()?;
                }
                Some((kind, left)) => {
                    let here = left
                        .map_or(bytes.len(), |left| bytes.len().min(left.try_into().unwrap_or(usize::MAX)));
                    if kind == MOOV && left.is_some_and(|left| self.moov.len() as u64 + left <= MAX_MOOV) {
                        self.moov.extend_from_slice(&bytes[..here]);
                    }
                    bytes = &bytes[here..];
                    self.advance(kind, left.map(|left| left - here as u64));
                }
            }
        }
        Ok(())
    }

    fn enter_if_complete(&mut self) -> Result<(), String> {
        let decoded = Header::decode_maybe(&mut self.header.as_slice());
        let Some(Header { kind, size }) = decoded.map_err(|_| "a box has an impossible size".to_owned())?
        else {
            return Ok(());
        };
        self.header.clear();
        if !self.seen_ftyp && kind != FTYP {
            return Err("its first box is not `ftyp`".to_owned());
        }
        self.seen_ftyp = true;
        self.seen_mdat |= kind == MDAT;
        self.seen_moov |= kind == MOOV;
        self.advance(kind, size.map(|size| size as u64));
        Ok(())
    }

    fn advance(&mut self, kind: FourCC, left: Option<u64>) {
        self.inside = (left != Some(0)).then_some((kind, left));
    }

    /// Judges the file, whose last byte has been fed.
    pub(super) fn finish(&self) -> End {
        match self.inside {
            _ if !self.header.is_empty() => End::Cut("inside the header of a box".to_owned()),
            Some((kind, Some(left))) => End::Cut(format!("{left} bytes before the end of box `{kind}`")),
            _ if !self.seen_moov => End::Broken("it has no `moov` box".to_owned()),
            _ if !self.seen_mdat => End::Broken("it has no `mdat` box".to_owned()),
            Some((_, None)) => End::Open(facts(&self.moov)),
            None => End::Whole(facts(&self.moov)),
        }
    }
}

/// Reads duration and size. Nothing depends on them, so whatever cannot be read is left out.
fn facts(moov: &[u8]) -> Facts {
    let mut facts = Facts::default();
    for_each_box(moov, |header, payload| match &header.kind.into() {
        b"mvhd" => {
            let mvhd =
                Mvhd::decode_atom(header, &mut &*payload).ok().filter(|m| m.timescale > 0 && m.duration > 0);
            facts.duration_ms = mvhd
                .and_then(|m| u64::try_from(u128::from(m.duration) * 1000 / u128::from(m.timescale)).ok());
        }
        b"trak" => for_each_box(payload, |header, payload| {
            if header.kind == FourCC::new(b"tkhd")
                && let Ok(tkhd) = Tkhd::decode_atom(header, &mut &*payload)
                && tkhd.width.integer() > 0
            {
                facts.width = Some(tkhd.width.integer().into());
                facts.height = Some(tkhd.height.integer().into());
            }
        }),
        _ => {}
    });
    facts
}

fn for_each_box(mut bytes: &[u8], mut visit: impl FnMut(&Header, &[u8])) {
    while let Ok(Some(header)) = Header::decode_maybe(&mut bytes) {
        let len = header.size.unwrap_or(bytes.remaining()).min(bytes.remaining());
        let (payload, rest) = bytes.split_at(len);
        visit(&header, payload);
        bytes = rest;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn walk(chunks: &[&[u8]]) -> Result<End, String> {
        let mut walk = BoxWalk::default();
        chunks.iter().try_for_each(|chunk| walk.feed(chunk))?;
        Ok(walk.finish())
    }

    #[test]
    fn a_large_box_and_an_empty_one_are_walked_over() {
        let file = b"\0\0\0\x08ftyp\0\0\0\x01mdat\0\0\0\0\0\0\0\x12..\0\0\0\x08moov";
        assert_eq!(walk(&[file]), Ok(End::Whole(Facts::default())));
        assert!(matches!(walk(&[&file[..file.len() - 9]]), Ok(End::Cut(_))));
        assert!(matches!(walk(&[&file[..file.len() - 1]]), Ok(End::Cut(_))));
        assert!(walk(&[b"\0\0\0\x08ftyp\0\0\0\x07mdat"]).is_err());
    }

    #[test]
    fn the_length_of_a_segment_is_read_where_it_is_told() {
        let header = b"\x1a\x45\xdf\xa3\x82..";
        let with = |segment: &[u8]| matroska_length(&[header, segment].concat());
        assert_eq!(with(b"\x18\x53\x80\x67\x85"), Some(7 + 5 + 5));
        assert_eq!(with(b"\x18\x53\x80\x67\x01\0\0\0\0\x01\0\0"), Some(7 + 12 + 65536));
        assert_eq!(with(b"\x18\x53\x80\x67\xff"), None);
        assert_eq!(with(b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff"), None);
        assert_eq!(with(b"\x18\x53\x80\x67\x00\x01"), None);
        assert_eq!(with(b"\x18\x53\x80\x67\x01"), None);
        assert_eq!(with(b""), None);
    }

    #[test]
    fn unknown_brands_of_iso_files_are_taken_and_pictures_are_not() {
        assert_eq!(Container::sniff(b"\0\0\0\x10ftypnew1\0\0\0\0"), Ok(Container::Mp4));
        assert_eq!(Container::sniff(b"\0\0\0\x14ftypqt  \0\0\0\0qt  "), Ok(Container::QuickTime));
        assert!(Container::sniff(b"\0\0\0\x14ftypavif\0\0\0\0avif").is_err());
    }

    /// Headers of known boxes with sizes of any kind among bytes of any kind.
    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let kinds =
            prop_oneof![Just(*b"moov"), Just(*b"mdat"), Just(*b"mvhd"), Just(*b"trak"), Just(*b"tkhd")];
        let piece = (0..200u32, kinds, prop::collection::vec(any::<u8>(), 0..120));
        let pieces = prop::collection::vec(piece, 0..8);
        pieces.prop_map(|pieces| {
            let mut file = b"\0\0\0\x08ftyp".to_vec();
            for (size, kind, bytes) in pieces {
                file.extend_from_slice(&size.to_be_bytes());
                file.extend_from_slice(&kind);
                file.extend_from_slice(&bytes);
            }
            file
        })
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_walk_panic_and_no_cutting_changes_its_verdict(file in hostile(), at in any::<prop::sample::Index>()) {
            let (left, right) = file.split_at(at.index(file.len() + 1));
            prop_assert_eq!(walk(&[&file]), walk(&[left, right]));
            prop_assert_eq!(walk(&[&file]), walk(&file.chunks(1).collect::<Vec<_>>()));
        }

        #[test]
        fn no_bytes_make_the_sniffing_panic(head in prop::collection::vec(any::<u8>(), 0..SNIFF_LEN)) {
            // The verdict does not matter here.
            drop(Container::sniff(&head));
            matroska_length(&head);
            matroska_length(&[&[0x1a, 0x45, 0xdf, 0xa3], &head[..]].concat());
        }
    }
}
