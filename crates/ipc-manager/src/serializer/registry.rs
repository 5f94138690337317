// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds the serializer that a connection string names.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::spec::{SerializerSpec, short_name};
use super::{BUILT_IN, Serializer};
use crate::error::{Error, ErrorKind, Escaped, Result};

/// Makes a built-in serializer.
pub(super) type Maker = fn(&SerializerSpec) -> Result<Arc<dyn Serializer>>;

type Factory = Arc<dyn Fn(&SerializerSpec) -> Result<Arc<dyn Serializer>> + Send + Sync>;

/// The serializers that connection strings may name.
///
/// It is a plain value: make one, add your own, pass it on. Equal specs give one shared instance; clones share their
/// instances.
///
/// ```
/// use std::sync::Arc;
///
/// use ipc_manager::serializer::{SerializerSpec, Serializers};
///
/// let serializers = Serializers::standard();
/// let spec = SerializerSpec::from_name("JSON")?;
/// assert!(Arc::ptr_eq(&serializers.resolve(&spec)?, &serializers.resolve(&spec)?));
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Clone)]
pub struct Serializers {
    factories: BTreeMap<String, Factory>,
    made: Arc<Mutex<HashMap<SerializerSpec, Arc<dyn Serializer>>>>,
}

impl Serializers {
    /// The serializers of this crate.
    #[must_use]
    pub fn standard() -> Self {
        let factories = BUILT_IN.iter().map(|(class, make)| ((*class).to_owned(), Arc::new(*make) as Factory));
        Self { factories: factories.collect(), made: Arc::default() }
    }

    /// Adds a serializer of your own under the name `+name`, or replaces one.
    ///
    /// The factory is called once for each spec. The serializer's own [`spec`](Serializer::spec) is what new
    /// connection strings show; it may differ from the given one, for example by leaving defaults out.
    #[must_use]
    pub fn with<F>(mut self, name: &str, factory: F) -> Self
    where
        F: Fn(&SerializerSpec) -> Result<Arc<dyn Serializer>> + Send + Sync + 'static,
    {
        let class = name.strip_prefix('+').unwrap_or(name);
        self.factories.insert(class.to_owned(), Arc::new(factory));
        // What was made by a factory that is replaced now must not be found again.
        self.made = Arc::default();
        self
    }

    /// Gives the serializer of a spec: the same instance each time.
    ///
    /// # Errors
    /// `UnknownSerializer`, which lists the known ones; `Usage` for an argument that the serializer does not know or
    /// accept; `Store`, `Permission` or `Corrupt` when a file that an argument names cannot be used.
    pub fn resolve(&self, spec: &SerializerSpec) -> Result<Arc<dyn Serializer>> {
        if let Some(made) = self.lock().get(spec) {
            return Ok(Arc::clone(made));
        }
        let Some(factory) = self.factories.get(spec.class()) else { return Err(self.unknown(spec)) };
        // Not under the lock: a factory may read files, or resolve another serializer.
        let new = factory(spec)?;
        let mut made = self.lock();
        // Arguments in another order, or defaults spelled out, are the same serializer.
        let shared = Arc::clone(made.entry(new.spec().clone()).or_insert(new));
        Ok(Arc::clone(made.entry(spec.clone()).or_insert(shared)))
    }

    /// The names that [`SerializerSpec::from_name`] takes, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.factories.keys().map(|class| short_name(class)).collect();
        names.sort_unstable();
        names
    }

    /// What a new bus uses unless told otherwise: `JSON::Zstd` where this crate was built with zstd, else `JSON`.
    #[must_use]
    pub fn default_spec(&self) -> SerializerSpec {
        SerializerSpec::of_class(BUILT_IN[0].0)
    }

    fn unknown(&self, spec: &SerializerSpec) -> Error {
        let name = spec.short_name();
        let detail = format!("there is no serializer {}; known are: {}", Escaped(&name), self.names().join(", "));
        Error::new(ErrorKind::UnknownSerializer, detail)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SerializerSpec, Arc<dyn Serializer>>> {
        // The map is sound after every single step, so a panic elsewhere takes nothing from it.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Serializers {
    fn default() -> Self {
        Self::standard()
    }
}

impl fmt::Debug for Serializers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Serializers").field(&self.names()).finish()
    }
}
