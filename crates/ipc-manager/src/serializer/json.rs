// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plain JSON: the payload is the text.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Serializer, SerializerSpec};
use crate::error::{Error, ErrorKind, Result};

pub(super) const CLASS: &str = "IPC::Manager::Serializer::JSON";

/// The serializer `JSON`: a payload is the JSON text itself.
///
/// ```
/// use ipc_manager::serializer::{Json, Serializer};
///
/// let mut payload = Vec::new();
/// Json::new().encode(r#"{"a":1}"#, &mut payload)?;
/// assert_eq!(payload, br#"{"a":1}"#);
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Json {
    spec: SerializerSpec,
}

impl Json {
    /// Makes the serializer. It has no settings.
    #[must_use]
    pub fn new() -> Self {
        Self { spec: SerializerSpec::of_class(CLASS) }
    }

    pub(super) fn make(spec: &SerializerSpec) -> Result<Arc<dyn Serializer>> {
        spec.check_arguments(&[])?;
        Ok(Arc::new(Self::new()))
    }
}

/// Whether a payload is the JSON text itself.
pub(crate) fn is_text(serializer: &dyn Serializer) -> bool {
    *serializer.spec() == SerializerSpec::of_class(CLASS)
}

impl Default for Json {
    fn default() -> Self {
        Self::new()
    }
}

impl Serializer for Json {
    fn spec(&self) -> &SerializerSpec {
        &self.spec
    }

    fn encode(&self, json: &str, payload: &mut Vec<u8>) -> Result<()> {
        payload.extend_from_slice(json.as_bytes());
        Ok(())
    }

    fn pack(&self, json: String) -> Result<Vec<u8>> {
        Ok(json.into_bytes())
    }

    fn decode<'a>(&self, payload: &'a [u8], limit_bytes: usize) -> Result<Cow<'a, [u8]>> {
        if payload.len() > limit_bytes {
            let detail = format!("the JSON text of {} bytes passes the limit of {limit_bytes}", payload.len());
            return Err(Error::new(ErrorKind::TooLarge, detail));
        }
        Ok(Cow::Borrowed(payload))
    }
}
