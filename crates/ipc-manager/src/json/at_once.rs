// SPDX-License-Identifier: MIT OR Apache-2.0
//! The outermost value of a JSON text. One that is a text without anything to escape is written at once; all others go the
//! general way.

use std::cell::Cell;
use std::fmt::Display;

use serde::ser::{Serialize, Serializer};

use super::token::is_plain;
use super::write::{Bounded, General, Refused, Wire};
use crate::limits::Limits;

/// See the module.
pub(super) struct AtOnce<'a, 'r> {
    /// What is written so far, to be appended to.
    out: &'a mut String,
    limits: &'a Limits,
    refused: &'r Cell<Option<Refused>>,
    /// Takes over what was written, if the value is to go the general way.
    general: &'a mut Option<General<'r>>,
}

impl<'a, 'r> AtOnce<'a, 'r> {
    pub(super) fn new(
        out: &'a mut String,
        limits: &'a Limits,
        refused: &'r Cell<Option<Refused>>,
        general: &'a mut Option<General<'r>>,
    ) -> Self {
        Self { out, limits, refused, general }
    }

    fn general(self) -> &'a mut General<'r> {
        let bytes = std::mem::take(self.out).into_bytes();
        let end = bytes.len().saturating_add(self.limits.decoded_bytes);
        let writer = Bounded::new(bytes, end, self.refused);
        self.general.insert(General::with_formatter(writer, Wire::new(self.limits.json_depth, self.refused)))
    }
}

/// Methods that only go the general way.
macro_rules! general {
    ($($method:ident($($name:ident: $type:ty),*) -> $ok:ty;)*) => {
        $(fn $method(self, $($name: $type),*) -> Result<$ok, Self::Error> { self.general().$method($($name),*) })*
    };
}

impl<'a, 'r> Serializer for AtOnce<'a, 'r> {
    type Ok = ();
    type Error = serde_json::Error;
    type SerializeSeq = <&'a mut General<'r> as Serializer>::SerializeSeq;
    type SerializeTuple = <&'a mut General<'r> as Serializer>::SerializeTuple;
    type SerializeTupleStruct = <&'a mut General<'r> as Serializer>::SerializeTupleStruct;
    type SerializeTupleVariant = <&'a mut General<'r> as Serializer>::SerializeTupleVariant;
    type SerializeMap = <&'a mut General<'r> as Serializer>::SerializeMap;
    type SerializeStruct = <&'a mut General<'r> as Serializer>::SerializeStruct;
    type SerializeStructVariant = <&'a mut General<'r> as Serializer>::SerializeStructVariant;

    fn serialize_str(self, text: &str) -> Result<(), Self::Error> {
        if text.len().saturating_add(2) > self.limits.decoded_bytes || !is_plain(text.as_bytes()) {
            return self.general().serialize_str(text);
        }
        self.out.push('"');
        self.out.push_str(text);
        self.out.push('"');
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Self::Error> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Self::Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Self::Error> {
        self.general().serialize_newtype_variant(name, index, variant, value)
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), Self::Error> {
        self.general().collect_str(value)
    }

    general! {
        serialize_bool(value: bool) -> ();
        serialize_i8(value: i8) -> ();
        serialize_i16(value: i16) -> ();
        serialize_i32(value: i32) -> ();
        serialize_i64(value: i64) -> ();
        serialize_i128(value: i128) -> ();
        serialize_u8(value: u8) -> ();
        serialize_u16(value: u16) -> ();
        serialize_u32(value: u32) -> ();
        serialize_u64(value: u64) -> ();
        serialize_u128(value: u128) -> ();
        serialize_f32(value: f32) -> ();
        serialize_f64(value: f64) -> ();
        serialize_char(value: char) -> ();
        serialize_bytes(value: &[u8]) -> ();
        serialize_none() -> ();
        serialize_unit() -> ();
        serialize_unit_struct(name: &'static str) -> ();
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str) -> ();
        serialize_seq(length: Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(length: usize) -> Self::SerializeTuple;
        serialize_tuple_struct(name: &'static str, length: usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str, length: usize)
            -> Self::SerializeTupleVariant;
        serialize_map(length: Option<usize>) -> Self::SerializeMap;
        serialize_struct(name: &'static str, length: usize) -> Self::SerializeStruct;
        serialize_struct_variant(name: &'static str, index: u32, variant: &'static str, length: usize)
            -> Self::SerializeStructVariant;
    }
}

#[cfg(test)]
mod tests {
    use crate::json::to_wire;
    use crate::limits::Limits;

    fn wire<T: serde::Serialize + ?Sized>(value: &T) -> String {
        let mut out = String::new();
        to_wire(value, &Limits::DEFAULT, &mut out).unwrap();
        out
    }

    #[test]
    fn every_kind_of_outermost_value_is_written() {
        #[derive(serde::Serialize)]
        struct Unit;
        #[derive(serde::Serialize)]
        struct New(&'static str);
        #[derive(serde::Serialize)]
        struct Pair(u8, i128);
        #[derive(serde::Serialize)]
        struct Named {
            name: &'static str,
        }
        #[derive(serde::Serialize)]
        enum Kind {
            Unit,
            New(&'static str),
            Pair(bool, char),
            Named { name: Option<&'static str> },
        }
        macro_rules! same {
            ($($value:expr),* $(,)?) => {
                $(assert_eq!(wire(&$value), serde_json::to_string(&$value).unwrap(), "{}", stringify!($value));)*
            };
        }
        same![
            "plain",
            "",
            "\"",
            "\n",
            Some("some"),
            Some(Some(1)),
            None::<u8>,
            New("new"),
            'c',
            true,
            (),
            Unit,
            Pair(1, -2)
        ];
        same![Named { name: "a" }, Kind::Unit, Kind::New("b"), Kind::Pair(false, 'x'), Kind::Named { name: None }];
        same![
            1_i8,
            2_i16,
            3_i32,
            4_i64,
            5_i128,
            6_u8,
            7_u16,
            8_u32,
            9_u64,
            10_u128,
            0.5_f32,
            1.5_f64,
            (1, "two"),
            [1; 3]
        ];
        same![std::collections::BTreeMap::from([("key", 1)]), vec!["a", "\\"]];
        assert_eq!(wire(&format_args!("{}-{}", 1, "a")), "\"1-a\"");
    }
}
