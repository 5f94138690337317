// SPDX-License-Identifier: MIT OR Apache-2.0
//! JSON in a zstd frame.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use zstd::zstd_safe::{
    CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, compress_bound,
    find_frame_compressed_size, get_error_name, get_frame_content_size, max_c_level, min_c_level,
};

use super::{Serializer, SerializerSpec};
use crate::error::{Error, ErrorKind, Result};

pub(super) const CLASS: &str = "IPC::Manager::Serializer::JSON::Zstd";

const DEFAULT_LEVEL: i32 = 3;
/// The reference leaves the window free; this is what zstd itself puts up with unless told otherwise.
const WINDOW_LOG_MAX: u32 = 27;
/// RFC 8878, section 3.1.1. Other magic numbers mean frames without content.
const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// Dictionaries are some 100 KiB; a path to something endless must not fill the memory.
const DICTIONARY_BYTES: u64 = 64 << 20;
/// A context that has grown past it, for one large payload, is not kept.
const KEPT_BYTES: usize = 8 << 20;
/// The first guess at the size of a text whose frame does not tell.
const FIRST_GUESS_BYTES: usize = 4 << 10;

/// The serializer `JSON::Zstd`: a payload is one zstd frame that holds the JSON text.
///
/// Any two of them without a dictionary read each other's payloads, whatever their levels. With a dictionary, both
/// sides need a file of the same content.
///
/// ```
/// use ipc_manager::serializer::{JsonZstd, Serializer};
///
/// let serializer = JsonZstd::new(9, None)?;
/// let text = format!(r#"["{}"]"#, "x".repeat(1000));
/// let mut payload = Vec::new();
/// serializer.encode(&text, &mut payload)?;
/// assert!(payload.len() < 100);
/// assert_eq!(*serializer.decode(&payload, 2000)?, *text.as_bytes());
/// # Ok::<(), ipc_manager::Error>(())
/// ```
pub struct JsonZstd {
    spec: SerializerSpec,
    level: i32,
    dictionary: Option<Dictionary>,
    compressors: Pool<CCtx<'static>>,
    decompressors: Pool<DCtx<'static>>,
}

struct Dictionary {
    path: PathBuf,
    content: Vec<u8>,
}

impl JsonZstd {
    /// Makes a serializer of a level and perhaps a dictionary, whose file is read now and not again.
    ///
    /// The file is a trained dictionary when it has the magic number of one; else its bytes are what texts refer to.
    ///
    /// # Errors
    /// `Usage` for a level that zstd does not have or a dictionary that is no UTF-8 path to a file, `Store` or
    /// `Permission` when the file cannot be read, `TooLarge` or `Corrupt` when it cannot be used.
    pub fn new(level: i32, dictionary: Option<&Path>) -> Result<Self> {
        let mut arguments = Vec::new();
        check_level(i64::from(level))?;
        if level != DEFAULT_LEVEL {
            arguments.push(("level".to_owned(), Value::from(level)));
        }
        if let Some(path) = dictionary {
            let Some(text) = path.to_str() else {
                return Err(Error::new(ErrorKind::Usage, "the path of a dictionary must be UTF-8").at_path(path));
            };
            arguments.push(("dictionary".to_owned(), Value::from(text)));
        }
        let made = Self {
            spec: SerializerSpec::of_class(CLASS).with_arguments(arguments),
            level,
            dictionary: dictionary.map(Dictionary::read).transpose()?,
            compressors: Pool::default(),
            decompressors: Pool::default(),
        };
        // A damaged dictionary shows now, not at the first message.
        made.compressors.put(made.compressor()?);
        made.decompressors.put(made.decompressor()?);
        Ok(made)
    }

    /// The compression level.
    #[must_use]
    pub fn level(&self) -> i32 {
        self.level
    }

    /// The file that the dictionary came from.
    #[must_use]
    pub fn dictionary(&self) -> Option<&Path> {
        self.dictionary.as_ref().map(|dictionary| dictionary.path.as_path())
    }

    pub(super) fn make(spec: &SerializerSpec) -> Result<Arc<dyn Serializer>> {
        spec.check_arguments(&["level", "dictionary"])?;
        let level = level_of(spec.argument("level"))?;
        let dictionary = match spec.argument("dictionary") {
            None | Some(Value::Null) => None,
            Some(Value::String(path)) if !path.is_empty() => Some(Path::new(path)),
            Some(_) => return Err(Error::new(ErrorKind::Usage, "the zstd dictionary must be the path of a file")),
        };
        let mut made = Self::new(level, dictionary)?;
        if !spec.is_array() {
            // The bare class stays bare: a connection string comes out as it went in.
            made.spec = spec.clone();
        }
        Ok(Arc::new(made))
    }

    fn compressor(&self) -> Result<CCtx<'static>> {
        let mut context = CCtx::try_create().ok_or_else(no_memory)?;
        let parameters = [
            CParameter::CompressionLevel(self.level),
            // With a dictionary the reference reads no frame without it.
            CParameter::ContentSizeFlag(true),
            // A raw dictionary has no id, so only the checksum tells that it was the wrong one.
            CParameter::ChecksumFlag(true),
        ];
        for parameter in parameters {
            context.set_parameter(parameter).map_err(|code| failed(ErrorKind::Serialize, code))?;
        }
        if let Some(dictionary) = &self.dictionary {
            context.load_dictionary(&dictionary.content).map_err(|code| dictionary.damaged(code))?;
        }
        Ok(context)
    }

    fn decompressor(&self) -> Result<DCtx<'static>> {
        let mut context = DCtx::try_create().ok_or_else(no_memory)?;
        let window = DParameter::WindowLogMax(WINDOW_LOG_MAX);
        context.set_parameter(window).map_err(|code| failed(ErrorKind::Corrupt, code))?;
        if let Some(dictionary) = &self.dictionary {
            context.load_dictionary(&dictionary.content).map_err(|code| dictionary.damaged(code))?;
        }
        Ok(context)
    }
}

impl Serializer for JsonZstd {
    fn spec(&self) -> &SerializerSpec {
        &self.spec
    }

    fn encode(&self, json: &str, payload: &mut Vec<u8>) -> Result<()> {
        let mut context = self.compressors.take().map_or_else(|| self.compressor(), Ok)?;
        let start = payload.len();
        payload.resize(start + compress_bound(json.len()), 0);
        let written = context.compress2(&mut payload[start..], json.as_bytes());
        payload.truncate(start + written.unwrap_or(0));
        // After an error the context is dropped: its state is undefined.
        written.map_err(|code| failed(ErrorKind::Serialize, code))?;
        if context.sizeof() <= KEPT_BYTES {
            self.compressors.put(context);
        }
        Ok(())
    }

    fn decode<'a>(&self, payload: &'a [u8], limit_bytes: usize) -> Result<Cow<'a, [u8]>> {
        let declared = check_frame(payload, limit_bytes)?;
        let mut context = self.decompressors.take().map_or_else(|| self.decompressor(), Ok)?;
        let text = decompress(&mut context, payload, declared, limit_bytes)?;
        if context.sizeof() <= KEPT_BYTES {
            self.decompressors.put(context);
        }
        Ok(Cow::Owned(text))
    }
}

impl fmt::Debug for JsonZstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonZstd").field("level", &self.level).field("dictionary", &self.dictionary()).finish()
    }
}

impl Dictionary {
    fn read(path: &Path) -> Result<Self> {
        let unreadable = |error| Error::system(error, "the zstd dictionary cannot be read").at_path(path);
        // Asked first, because to open a FIFO would wait for its other end.
        if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(Error::new(ErrorKind::Usage, "the zstd dictionary is not a regular file").at_path(path));
        }
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let mut content = Vec::new();
        file.take(DICTIONARY_BYTES + 1).read_to_end(&mut content).map_err(unreadable)?;
        if content.len() as u64 > DICTIONARY_BYTES {
            let detail = format!("the zstd dictionary passes the limit of {DICTIONARY_BYTES} bytes");
            return Err(Error::new(ErrorKind::TooLarge, detail).at_path(path));
        }
        Ok(Self { path: path.to_owned(), content })
    }

    fn damaged(&self, code: usize) -> Error {
        let detail = format!("the zstd dictionary cannot be used: {}", get_error_name(code));
        Error::new(ErrorKind::Corrupt, detail).at_path(&self.path)
    }
}

/// Contexts that wait for their next use: making one costs more than a small message.
struct Pool<T>(Mutex<Vec<T>>);

impl<T> Pool<T> {
    fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn put(&self, context: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(context);
    }
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

fn level_of(value: Option<&Value>) -> Result<i32> {
    let level = match value {
        None | Some(Value::Null) => return Ok(DEFAULT_LEVEL),
        Some(Value::Number(number)) => number.as_i64(),
        // The reference does not tell numbers from strings that look like one.
        Some(Value::String(text)) => text.parse().ok(),
        Some(_) => None,
    };
    let Some(level) = level else { return Err(Error::new(ErrorKind::Usage, "the zstd level must be an integer")) };
    check_level(level)
}

fn check_level(level: i64) -> Result<i32> {
    let levels = min_c_level()..=max_c_level();
    i32::try_from(level).ok().filter(|level| levels.contains(level)).ok_or_else(|| {
        let detail = format!("zstd level {level} is outside of {} to {}", levels.start(), levels.end());
        Error::new(ErrorKind::Usage, detail)
    })
}

/// Checks that a payload is exactly one frame, and gives the size of the text that it declares.
fn check_frame(payload: &[u8], limit_bytes: usize) -> Result<Option<usize>> {
    let corrupt = |detail: &str| Error::new(ErrorKind::Corrupt, detail);
    if !payload.starts_with(&MAGIC) {
        return Err(corrupt("the payload does not begin with a zstd frame").at_offset(0));
    }
    let frame = find_frame_compressed_size(payload).map_err(|code| failed(ErrorKind::Corrupt, code))?;
    if frame != payload.len() {
        return Err(corrupt("something follows the zstd frame").at_offset(frame));
    }
    match get_frame_content_size(payload) {
        Ok(None) => Ok(None),
        Ok(Some(size)) => match usize::try_from(size) {
            Ok(size) if size <= limit_bytes => Ok(Some(size)),
            _ => Err(too_large(limit_bytes)),
        },
        Err(_) => Err(corrupt("the header of the zstd frame is damaged").at_offset(0)),
    }
}

/// Unpacks a frame step by step, so that one byte over the limit ends it, whatever the frame declared.
fn decompress(context: &mut DCtx<'_>, payload: &[u8], declared: Option<usize>, limit_bytes: usize) -> Result<Vec<u8>> {
    let corrupt = |code| failed(ErrorKind::Corrupt, code);
    context.reset(ResetDirective::SessionOnly).map_err(corrupt)?;
    let bound = limit_bytes.saturating_add(1);
    let guess = declared.unwrap_or_else(|| payload.len().saturating_mul(4).max(FIRST_GUESS_BYTES));
    // Room for the whole text lets zstd unpack it in one step, without a window of its own.
    let mut text = Vec::new();
    text.try_reserve_exact(guess.min(bound)).map_err(|_| no_memory())?;
    let mut input = InBuffer::around(payload);
    loop {
        if text.len() == text.capacity() {
            let more = text.len().clamp(1, bound.saturating_sub(text.len()).max(1));
            text.try_reserve_exact(more).map_err(|_| no_memory())?;
        }
        let (written, taken) = (text.len(), input.pos());
        let mut output = OutBuffer::around_pos(&mut text, written);
        let rest = context.decompress_stream(&mut output, &mut input).map_err(corrupt)?;
        if text.len() > limit_bytes {
            return Err(too_large(limit_bytes));
        }
        if rest == 0 {
            return Ok(text);
        }
        if text.len() == written && input.pos() == taken && text.len() < text.capacity() {
            return Err(Error::new(ErrorKind::Corrupt, "the zstd frame ends too early").at_offset(taken));
        }
    }
}

fn too_large(limit_bytes: usize) -> Error {
    Error::new(ErrorKind::TooLarge, format!("the unpacked text passes the limit of {limit_bytes} bytes"))
}

fn no_memory() -> Error {
    Error::new(ErrorKind::Store, "there is no memory for zstd")
}

fn failed(kind: ErrorKind, code: usize) -> Error {
    Error::new(kind, format!("zstd: {}", get_error_name(code)))
}
