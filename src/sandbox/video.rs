//! The bytes of a finished video: a real MP4, padded on request, and no two tasks' alike.
//!
//! ```text
//! | built-in MP4, `moov` first | `free` box with padding (only for [[size:…]]) | `free` box of 64 bytes from the task's key |
//! ```
//! Players skip `free` boxes, so every file plays.

use std::{ops::Range, sync::LazyLock};

use bytes::Bytes;
use sha2::{Digest, Sha256};

const BOX_HEADER: u64 = 8;
const TAIL: u64 = 64;
/// A prime, so that bytes written at a wrong round offset never match.
const PATTERN_LEN: usize = 65_521;

/// What padding is cut from; its content only has to be far from regular.
static PATTERN: LazyLock<Bytes> = LazyLock::new(|| {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let bytes = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    });
    bytes.take(PATTERN_LEN).collect()
});

/// The aspect ratio, which picks the built-in video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aspect {
    Landscape,
    Portrait,
    Square,
}

impl Aspect {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "16:9" => Some(Self::Landscape),
            "9:16" => Some(Self::Portrait),
            "1:1" => Some(Self::Square),
            _ => None,
        }
    }

    fn video(self) -> &'static [u8] {
        match self {
            Self::Landscape => include_bytes!("assets/16x9.mp4"),
            Self::Portrait => include_bytes!("assets/9x16.mp4"),
            Self::Square => include_bytes!("assets/1x1.mp4"),
        }
    }
}

/// A file that is computed as it is read, so that a large one costs no memory.
#[derive(Clone, Debug)]
pub(super) struct Video {
    base: Bytes,
    padding_header: Bytes,
    padding: u64,
    /// Where in the pattern this task's padding begins.
    phase: usize,
    tail: Bytes,
}

impl Video {
    /// `size` is the length of the whole file; without one it is as small as can be.
    pub(super) fn new(aspect: Aspect, size: Option<u64>, key: [u8; 32]) -> Self {
        let base = Bytes::from_static(aspect.video());
        let smallest = base.len() as u64 + TAIL;
        let padding_box = size.map_or(0, |size| size.saturating_sub(smallest));
        let (padding_header, padding) = match padding_box.checked_sub(BOX_HEADER) {
            Some(padding) => (box_header(padding_box), padding),
            None => (Bytes::new(), 0),
        };
        let mut tail = box_header(TAIL).to_vec();
        tail.extend(key.iter().cycle().take((TAIL - BOX_HEADER) as usize));
        let phase = usize::from(u16::from_le_bytes([key[0], key[1]]));
        Self { base, padding_header, padding, phase, tail: tail.into() }
    }

    pub(super) fn len(&self) -> u64 {
        (self.base.len() + self.padding_header.len()) as u64 + self.padding + TAIL
    }

    /// SHA-256 of the whole, hexadecimal.
    pub(super) fn sha256(&self) -> String {
        let (mut hasher, mut at) = (Sha256::new(), 0);
        while at < self.len() {
            let part = self.read(at..self.len(), PATTERN_LEN);
            hasher.update(&part);
            at += part.len() as u64;
        }
        hex::encode(hasher.finalize())
    }

    /// Some of the bytes in `range`, from its start: at least one unless it is empty, at most `max`.
    pub(super) fn read(&self, range: Range<u64>, max: usize) -> Bytes {
        let mut start = range.start;
        let wanted = (range.end.saturating_sub(start)).min(max as u64) as usize;
        for segment in [&self.base, &self.padding_header] {
            if start < segment.len() as u64 {
                return cut(segment, start as usize, wanted);
            }
            start -= segment.len() as u64;
        }
        if start < self.padding {
            let offset = ((start + self.phase as u64) % PATTERN_LEN as u64) as usize;
            return cut(&PATTERN, offset, wanted.min((self.padding - start) as usize));
        }
        cut(&self.tail, (start - self.padding) as usize, wanted)
    }
}

fn cut(segment: &Bytes, start: usize, wanted: usize) -> Bytes {
    let start = start.min(segment.len());
    segment.slice(start..segment.len().min(start + wanted))
}

/// The header of a `free` box that is `size` bytes long in all; sizes fit 32 bits.
fn box_header(size: u64) -> Bytes {
    let mut header = (size as u32).to_be_bytes().to_vec();
    header.extend(b"free");
    header.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(video: &Video, mut range: Range<u64>, max: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !range.is_empty() {
            let part = video.read(range.clone(), max);
            assert!(!part.is_empty() && part.len() <= max);
            range.start += part.len() as u64;
            all.extend(part);
        }
        all
    }

    #[test]
    fn any_range_in_any_chunks_is_a_part_of_the_whole() {
        let video = Video::new(Aspect::Square, Some(200_000), [7; 32]);
        let whole = read_all(&video, 0..video.len(), usize::MAX);
        assert_eq!(whole.len(), 200_000);
        for range in [0..1, 4000..9000, 5300..5400, 70_000..140_001, 199_930..200_000, 9..9] {
            let expected = &whole[range.start as usize..range.end as usize];
            assert_eq!(read_all(&video, range.clone(), 999), expected, "{range:?}");
        }
    }

    #[test]
    fn a_file_is_a_chain_of_boxes_that_ends_with_the_file() {
        for size in [None, Some(65_536), Some(1 << 20)] {
            let video = Video::new(Aspect::Portrait, size, [1; 32]);
            let whole = read_all(&video, 0..video.len(), 65_536);
            assert_eq!(whole.len() as u64, size.unwrap_or(video.len()));
            let (mut at, mut names) = (0, Vec::new());
            while at < whole.len() {
                let length = u32::from_be_bytes(whole[at..at + 4].try_into().unwrap()) as usize;
                names.push(String::from_utf8(whole[at + 4..at + 8].to_vec()).unwrap());
                at += length;
            }
            assert_eq!(at, whole.len());
            assert_eq!(names.first().map(String::as_str), Some("ftyp"));
            assert_eq!(names.last().map(String::as_str), Some("free"));
        }
    }
}
