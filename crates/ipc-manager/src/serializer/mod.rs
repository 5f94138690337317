// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a message's JSON text becomes the payload that a store holds, and back.
//!
//! Every serializer carries the same JSON text, ASCII only; they differ in how it is packed. Both sides of a bus use
//! the one that the connection string names in its second slot, which a [`SerializerSpec`] is the parsed form of.
//! [`Serializers`] finds the serializer for a spec, and takes serializers of your own.

mod json;
#[cfg(feature = "zstd")]
mod json_zstd;
mod registry;
mod spec;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt::Debug;

use crate::error::Result;

pub use json::Json;
pub(crate) use json::is_text;
#[cfg(feature = "zstd")]
pub use json_zstd::JsonZstd;
pub use registry::Serializers;
pub use spec::SerializerSpec;

/// Turns a JSON text into a payload of the store and back.
///
/// One value serves all threads of a process at once. It never looks inside the JSON text: whether that is a sound
/// message is for the caller to find out, in both directions.
///
/// ```
/// use std::borrow::Cow;
/// use std::sync::Arc;
///
/// use ipc_manager::serializer::{Serializer, SerializerSpec, Serializers};
/// use ipc_manager::{Error, ErrorKind, Result};
///
/// /// Packs a text by inverting its bits.
/// #[derive(Debug)]
/// struct Inverted(SerializerSpec);
///
/// impl Serializer for Inverted {
///     fn spec(&self) -> &SerializerSpec {
///         &self.0
///     }
///
///     fn encode(&self, json: &str, payload: &mut Vec<u8>) -> Result<()> {
///         payload.extend(json.bytes().map(|byte| !byte));
///         Ok(())
///     }
///
///     fn decode<'a>(&self, payload: &'a [u8], limit_bytes: usize) -> Result<Cow<'a, [u8]>> {
///         if payload.len() > limit_bytes {
///             return Err(Error::new(ErrorKind::TooLarge, "the payload is larger than the limit"));
///         }
///         Ok(Cow::Owned(payload.iter().map(|byte| !byte).collect()))
///     }
/// }
///
/// let serializers = Serializers::standard().with("My::Inverted", |spec| Ok(Arc::new(Inverted(spec.clone()))));
/// let serializer = serializers.resolve(&SerializerSpec::from_name("+My::Inverted")?)?;
/// let mut payload = Vec::new();
/// serializer.encode("[1]", &mut payload)?;
/// assert_eq!(*serializer.decode(&payload, 100)?, *b"[1]");
/// # Ok::<(), Error>(())
/// ```
pub trait Serializer: Send + Sync + Debug {
    /// What stands in the second slot of the connection string.
    fn spec(&self) -> &SerializerSpec;

    /// Appends the payload of an ASCII JSON text to `payload`, and leaves what is in it alone.
    ///
    /// # Errors
    /// `Serialize` when the text cannot be packed.
    fn encode(&self, json: &str, payload: &mut Vec<u8>) -> Result<()>;

    /// Makes the payload of a text that nobody needs any more. To be written where that saves a copy.
    ///
    /// # Errors
    /// As [`encode`](Serializer::encode).
    fn pack(&self, json: String) -> Result<Vec<u8>> {
        let mut payload = Vec::with_capacity(json.len());
        self.encode(&json, &mut payload)?;
        Ok(payload)
    }

    /// Gives the JSON text of a payload back, unchecked, and never more than `limit_bytes` of it.
    ///
    /// The payload may come from anyone: what it declares about itself is not believed.
    ///
    /// # Errors
    /// `TooLarge` for a text over the limit, `Corrupt` for a payload that this serializer did not make.
    fn decode<'a>(&self, payload: &'a [u8], limit_bytes: usize) -> Result<Cow<'a, [u8]>>;
}

/// The only list of serializers: class and maker, the one that a new bus gets by default in front.
const BUILT_IN: &[(&str, registry::Maker)] = &[
    #[cfg(feature = "zstd")]
    (json_zstd::CLASS, JsonZstd::make),
    (json::CLASS, Json::make),
];
