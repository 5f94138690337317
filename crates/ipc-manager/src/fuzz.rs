// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is read of others, fed with what is nearly sound. The targets of a protocol are beside its code.

use ipc_manager_testkit::fuzz::{Counting, Fuzz};

use crate::json;
use crate::limits::Limits;
use crate::message::{Message, MessageId};
use crate::name::PeerName;
use crate::serializer::{Json, Serializer};
use crate::service::{Request, Response};
use crate::stats::Stats;
use crate::{ConnectionString, SerializerSpec};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A message as it is written here.
pub(crate) const MESSAGE: &str = r#"{"id":"01J-aB_9","from":"a","to":"b","stamp":1700000000.25,"stamp_ord":0,"content":{"x":[1,2.5,null,"\u00e9"]}}"#;

/// A target with its corpus.
pub(crate) fn target(name: &str) -> Fuzz {
    Fuzz::new(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus"), name)
}

#[test]
fn connection_strings() {
    target("connection-string")
        .seed(r#"["MessageFiles","JSON","/tmp/bus"]"#)
        .seed(r#" ["+My::Proto",["JSON::Zstd","level",3,"dictionary","/d"],"dbi:Pg:dbname=a;host=/run"] "#)
        .seed(r#"["IPC::Manager::Client::SQLite",null,"/tmp/\u00e9.sqlite",1,2]"#)
        .bytes(|input| {
            let Ok(text) = str::from_utf8(input) else { return };
            let Ok(info) = ConnectionString::parse(text) else { return };
            let written = info.to_string();
            assert!(written.is_ascii() && !written.contains('\n'));
            assert_eq!(ConnectionString::parse(&written).as_ref().ok(), Some(&info), "{written}");
            assert!(SerializerSpec::parse(&info.serializer().to_value()).is_ok());
        });
}

#[test]
fn json_texts() {
    target("json")
        .seed(r#"{"a":[1,-2.5e3,"x\u00e9\n",true,null,{"b":{}}],"c":[[[]]]}"#)
        .seed("\u{feff}[123456789012345678901234567890,-0,1e-7]")
        .seed(b"\"caf\xe9\"".as_slice())
        .seed("[".repeat(128) + &"]".repeat(128))
        .bytes(|input| {
            let Ok(text) = json::normalise(input, &Limits::DEFAULT) else { return };
            assert!(text.is_ascii());
            let again = json::normalise(text.as_bytes(), &Limits::DEFAULT).expect("what was mended is sound");
            assert_eq!(again, text);
            let Ok(value) = json::parse_value(&text) else { return };
            let write = |value: &serde_json::Value| {
                let mut out = String::new();
                json::to_wire(value, &Limits::DEFAULT, &mut out).map(|()| out)
            };
            let written = write(&value).expect("what was read can be written");
            let read = json::normalise(written.as_bytes(), &Limits::DEFAULT).expect("what was written can be read");
            let read = json::parse_value(&read).expect("it is a value");
            // The digits of a float that do not travel are gone the first time.
            assert_eq!(write(&read).expect("it can be written again"), written);
        });
}

#[test]
fn messages() {
    target("message")
        .seed(MESSAGE)
        .seed(r#"{"content":"x","broadcast":1,"from":7,"stamp":"12.5","extra":{"k":[1e300,-1]}}"#)
        .seed(r#"{"id":12,"from":"a","to":"b","broadcast":"0","stamp":null,"stamp_ord":"3","content":false}"#)
        .bytes(|input| {
            let Ok(message) = Message::from_json(input, &Limits::DEFAULT) else { return };
            let text = message.to_json(&Limits::DEFAULT).expect("what was read can be written");
            let read = Message::from_json(text.as_bytes(), &Limits::DEFAULT).expect("what was written can be read");
            assert_eq!((read.id(), read.from(), read.to()), (message.id(), message.from(), message.to()));
            assert_eq!(read.raw_content().as_json(), message.raw_content().as_json());
            assert_eq!(read.is_broadcast(), message.is_broadcast());
            assert_eq!(read.to_json(&Limits::DEFAULT).expect("it can be written again"), text);
            // White space makes it go the long way, which must come to the same.
            let long = Message::from_json(format!(" {text}").as_bytes(), &Limits::DEFAULT).expect("it is sound");
            assert_eq!(long, read);
            let mut spaced = b" ".to_vec();
            spaced.extend_from_slice(input);
            let spaced = Message::from_json(&spaced, &Limits::DEFAULT).expect("white space changes nothing");
            assert_eq!(spaced.raw_content().as_json(), message.raw_content().as_json());
            let _ = message.content();
        });
}

#[test]
fn payloads() {
    const LIMIT: usize = 256 << 10;
    let plain = Json::new();
    let target = target("payload").memory((4 << 20) + 4 * LIMIT, 64).seed(MESSAGE);
    #[cfg(feature = "zstd")]
    let (packer, target) = {
        let packer = crate::serializer::JsonZstd::new(3, None).expect("the level is one");
        let mut target = target;
        let texts = [MESSAGE.to_owned(), format!("{{\"from\":\"a\",\"content\":\"{}\"}}", "ab".repeat(60_000))];
        for text in texts {
            let mut payload = Vec::new();
            packer.encode(&text, &mut payload).expect("it can be packed");
            assert_eq!(packer.decode(&payload, LIMIT).expect("it can be unpacked"), text.as_bytes());
            target = target.seed(payload);
        }
        (packer, target)
    };
    target.bytes(|input| {
        let limits = Limits { decoded_bytes: LIMIT, ..Limits::DEFAULT };
        let serializers: &[&dyn Serializer] = &[
            &plain,
            #[cfg(feature = "zstd")]
            &packer,
        ];
        for serializer in serializers {
            let Ok(text) = serializer.decode(input, LIMIT) else { continue };
            assert!(text.len() <= LIMIT, "the limit does not hold");
            let _ = Message::from_json(&text, &limits);
        }
    });
}

#[test]
fn counters() {
    target("stats").seed(r#"{"read":{"a":1,"b":"-2"},"sent":{}}"#).seed(r#"{"read":null}"#).bytes(|input| {
        let Ok(text) = json::normalise(input, &Limits::DEFAULT) else { return };
        let Ok(stats) = json::parse_value(&text).and_then(|value| Stats::from_value(&value)) else { return };
        let mut written = String::new();
        json::to_wire(&stats, &Limits::DEFAULT, &mut written).expect("counters can be written");
        let value = json::parse_value(&written).expect("they can be read");
        assert_eq!(Stats::from_value(&value).expect("they are counters"), stats);
        let mut sum = stats.clone();
        sum.add(&stats);
    });
}

#[test]
fn requests_and_responses() {
    target("envelope")
        .seed(r#"{"ipcm_request_id":"1","request":{"x":1},"ipcm_ask":"ping"}"#)
        .seed(r#"{"ipcm_response_id":1.5,"response":null,"ipcm_error":"no","ipcm_more":1}"#)
        .bytes(|input| {
            let Ok(content) = json::normalise(input, &Limits::DEFAULT) else { return };
            let text = format!("{{\"from\":\"a\",\"to\":\"b\",\"content\":{content}}}");
            let Ok(message) = Message::from_json(text.as_bytes(), &Limits::DEFAULT) else { return };
            if let Some(request) = Request::of(&message) {
                let _ = (request.value(), request.ticket().id().to_string(), request.takes_many());
            }
            if let Some(response) = Response::of(&message) {
                let _ = (response.value(), response.id().to_string(), response.is_final());
                let _ = response.into_value();
            }
        });
}

#[test]
fn names_and_ids() {
    target("name").seed("worker-1").seed("a/b").seed("h-x").seed("x.pid").seed("caf\u{e9}").bytes(|input| {
        let Ok(text) = str::from_utf8(input) else { return };
        if let Ok(name) = PeerName::new(text) {
            assert_eq!(PeerName::foreign(text).ok(), Some(name));
        }
        if let Ok(id) = MessageId::new(text) {
            assert_eq!(MessageId::foreign(text).as_ref(), Some(&id));
            assert!(!text.contains(['/', '\0', '.']));
        }
    });
}
