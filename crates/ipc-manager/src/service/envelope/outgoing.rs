// SPDX-License-Identifier: MIT OR Apache-2.0
//! Envelopes as they are sent: their text is put together, since all that is in them was checked already.

use serde::Serialize;

use super::{Payload, RequestId, on_the_wire};
use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::limits::Limits;
use crate::message::ToContent;

/// A request as it is sent.
pub(in super::super) struct RequestOut<'a, T: Serialize + ?Sized> {
    id: &'a RequestId,
    request: &'a T,
    takes_many: bool,
    ask: Option<&'a str>,
}

impl<'a, T: Serialize + ?Sized> RequestOut<'a, T> {
    pub(in super::super) fn new(id: &'a RequestId, request: &'a T, takes_many: bool) -> Self {
        Self { id, request, takes_many, ask: None }
    }

    pub(in super::super) fn asking(mut self, ask: Option<&'a str>) -> Self {
        self.ask = ask;
        self
    }
}

impl<T: Serialize + ?Sized> ToContent for RequestOut<'_, T> {
    fn append_to(&self, out: &mut String, limits: &Limits) -> Result<()> {
        let begin = out.len();
        // One level belongs to the envelope.
        let inside = Limits { json_depth: limits.json_depth.saturating_sub(1), ..limits.clone() };
        out.push_str("{\"ipcm_request_id\":");
        self.id.append_to(out);
        out.push_str(",\"request\":");
        json::to_wire(self.request, &inside, out)?;
        if self.takes_many {
            out.push_str(",\"ipcm_stream\":true");
        }
        if let Some(ask) = self.ask {
            out.push_str(",\"ipcm_ask\":");
            json::text_to_wire(ask, limits, out)?;
        }
        out.push('}');
        bounded(out.len() - begin, limits)
    }
}

/// A response as it is sent.
pub(in super::super) struct ResponseOut<'a> {
    pub(in super::super) id: &'a RequestId,
    pub(in super::super) response: &'a Payload,
    pub(in super::super) error: Option<&'a str>,
    pub(in super::super) more: bool,
    pub(in super::super) answer: Option<&'a str>,
}

impl<'a> ResponseOut<'a> {
    pub(in super::super) fn new(id: &'a RequestId, response: &'a Payload) -> Self {
        Self { id, response, error: None, more: false, answer: None }
    }
}

impl ToContent for ResponseOut<'_> {
    fn append_to(&self, out: &mut String, limits: &Limits) -> Result<()> {
        let begin = out.len();
        out.push_str("{\"ipcm_response_id\":");
        self.id.append_to(out);
        out.push_str(",\"response\":");
        check_again(self.response, limits)?;
        out.push_str(self.response.as_json());
        if let Some(error) = self.error {
            out.push_str(",\"ipcm_error\":");
            json::text_to_wire(error, limits, out)?;
        }
        if self.more {
            out.push_str(",\"ipcm_more\":true");
        }
        if let Some(answer) = self.answer {
            out.push_str(",\"ipcm_answer\":");
            json::text_to_wire(answer, limits, out)?;
        }
        out.push('}');
        bounded(out.len() - begin, limits)
    }
}

/// What takes a request back.
pub(in super::super) struct CancelOut<'a>(pub(in super::super) &'a RequestId);

impl ToContent for CancelOut<'_> {
    fn append_to(&self, out: &mut String, limits: &Limits) -> Result<()> {
        let begin = out.len();
        out.push_str("{\"ipcm_cancel_id\":");
        self.0.append_to(out);
        out.push('}');
        bounded(out.len() - begin, limits)
    }
}

/// A payload was checked for the usual limits; this bus may have narrower ones.
fn check_again(payload: &Payload, limits: &Limits) -> Result<()> {
    let usual = Limits::DEFAULT;
    if limits.json_depth.saturating_add(1) >= usual.json_depth && limits.json_elements >= usual.json_elements {
        return Ok(());
    }
    let inside = Limits { json_depth: limits.json_depth.saturating_sub(1), ..limits.clone() };
    on_the_wire(payload.as_json().to_owned(), &inside).map(drop)
}

/// The parts were each within the limit; so must the whole be.
fn bounded(bytes: usize, limits: &Limits) -> Result<()> {
    if bytes <= limits.decoded_bytes {
        return Ok(());
    }
    let limit = limits.decoded_bytes;
    Err(Error::new(ErrorKind::TooLarge, format!("the JSON text passes the limit of {limit} bytes")))
}
