//! The loop that is built in: who has no encoder at hand sees a picture nevertheless. `README.md` says how it is made.

use bytes::Bytes;

use super::{FileSource, SourceError};

/// A test pattern with a clock and a beep each second: H.264 and AAC, 640 × 360, a keyframe each second. It loops
/// without a seam: 8 seconds are 200 pictures, and 375 frames of sound.
///
/// # Errors
/// None but that it is read as any other file is.
pub fn demo() -> Result<FileSource, SourceError> {
    FileSource::of_bytes(Bytes::from_static(include_bytes!("demo.mp4")), true)
}
