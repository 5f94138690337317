// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a service says of itself.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a service says of itself when asked.
///
/// ```
/// use ipc_manager::{Description, Method};
/// let method = Method::new("add").about("adds two numbers").request(serde_json::json!({"type": "array"}));
/// let description = Description { name: "calc".into(), version: Some("1.2".into()), methods: vec![method], ..Description::default() };
/// let text = serde_json::to_string(&description)?;
/// assert_eq!(serde_json::from_str::<Description>(&text)?, description);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Description {
    /// Its name on the bus.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// Its version, in whatever way it counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// A sentence on what it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// What it can be asked.
    pub methods: Vec<Method>,
}

/// One thing that a service can be asked.
///
/// ```
/// assert_eq!(ipc_manager::Method::new("add").name, "add");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Method {
    /// How it is called.
    pub name: String,
    /// A sentence on what it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// The JSON schema of a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Value>,
    /// The JSON schema of a response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<Value>,
}

impl Method {
    /// A method of that name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Says what it does.
    #[must_use]
    pub fn about(mut self, about: &str) -> Self {
        self.about = Some(about.to_owned());
        self
    }

    /// Says what a request looks like, as a JSON schema.
    #[must_use]
    pub fn request(mut self, schema: Value) -> Self {
        self.request = Some(schema);
        self
    }

    /// Says what a response looks like, as a JSON schema.
    #[must_use]
    pub fn response(mut self, schema: Value) -> Self {
        self.response = Some(schema);
        self
    }
}
