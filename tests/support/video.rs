//! Small videos made byte by byte, with contents that no other offset repeats.

use bytes::Bytes;

/// An MP4 file with a playable header (3.5 s, 640×360) and `payload` bytes of media that only look like media.
pub(crate) fn mp4(payload: usize) -> Bytes {
    [ftyp(), moov(), boxed(b"mdat", &noise(payload))].concat().into()
}

/// A WebM file with a segment of `payload` bytes, that only look like media.
pub(crate) fn webm(payload: usize) -> Bytes {
    let header =
        b"\x42\x86\x81\x01\x42\xf7\x81\x01\x42\xf2\x81\x04\x42\xf3\x81\x08\x42\x82\x84webm\x42\x87\x81\x04";
    let header = [b"\x1a\x45\xdf\xa3", [0x80 | header.len() as u8].as_slice(), header].concat();
    let size = (payload as u32 | 1 << 28).to_be_bytes();
    [&header, b"\x18\x53\x80\x67".as_slice(), &size, &noise(payload)].concat().into()
}

/// One box with its header.
pub(crate) fn boxed(kind: &[u8; 4], payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32 + 8).to_be_bytes(), kind.as_slice(), payload].concat()
}

/// The box that every MP4 file begins with.
pub(crate) fn ftyp() -> Vec<u8> {
    boxed(b"ftyp", b"isom\0\0\x02\0isomiso2avc1mp41")
}

/// The header of a movie with one video track.
pub(crate) fn moov() -> Vec<u8> {
    let mut mvhd = vec![0; 100];
    mvhd[12..16].copy_from_slice(&1000u32.to_be_bytes());
    mvhd[16..20].copy_from_slice(&3500u32.to_be_bytes());
    let mut tkhd = vec![0; 84];
    tkhd[76..80].copy_from_slice(&(640u32 << 16).to_be_bytes());
    tkhd[80..84].copy_from_slice(&(360u32 << 16).to_be_bytes());
    boxed(b"moov", &[boxed(b"mvhd", &mvhd), boxed(b"trak", &boxed(b"tkhd", &tkhd))].concat())
}

/// Bytes without a period (xorshift), so that a piece at the wrong place changes the hash.
fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len.next_multiple_of(8)];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for word in bytes.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
