//! Objects as objects: a deserializer that takes a struct from a JSON object and from nothing else.
//!
//! `serde` would also read a struct from a list, its fields by position. A feed that sends `["x","EURUSD","buy"]` would then
//! be understood by the order in which our source happens to name them, which nobody has promised. Lists, optional values
//! and fields hand this on to what is inside them; every other value is read by the deserializer within as it is.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

/// Reads structs from objects alone.
pub struct Objects<D>(pub D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Objects<D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Within { visitor, is_struct: true })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Within { visitor, is_struct: false })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_seq(Within { visitor, is_struct: false })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_option(Within { visitor, is_struct: false })
    }

    /// Raw values ask for themselves by this; what they hold is read by whoever takes them.
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_newtype_struct(name, visitor)
    }

    /// What a variant holds is read by the deserializer within: no body has a struct there.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple
        tuple_struct identifier ignored_any
    }
}

/// A visitor whose values inside are read by [`Objects`] again; as access or seed, the same for what it gives out.
struct Within<V> {
    visitor: V,
    is_struct: bool,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Within<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A struct would name itself as our source does.
        if self.is_struct { f.write_str("an object") } else { self.visitor.expecting(f) }
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inside: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(Objects(inside))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_seq(Inside(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(Inside(fields))
    }
}

/// Elements, fields and seeds whose values are read by [`Objects`].
struct Inside<A>(A);

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Inside<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Inside(seed))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Inside<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Inside(seed))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Inside<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inside: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Objects(inside))
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::decode;
    use super::super::marks::MarkBody;
    use super::super::signals::SignalBody;

    #[test]
    fn a_struct_is_read_from_an_object_alone_wherever_it_stands() {
        let mark = r#"["EURUSD","1","1","2026-11-24T02:00:00Z"]"#;
        assert!(decode::<MarkBody>(mark.as_bytes()).is_err());
        assert!(decode::<Vec<MarkBody>>(format!("[{mark}]").as_bytes()).is_err());
        let error = decode::<SignalBody>(br#"{"protection":["1",null,null,null]}"#).expect_err("a list");
        assert!(error.0.starts_with("invalid type: sequence, expected an object"), "{error}");
        let signal: SignalBody = decode(br#"{"symbol":null,"protection":{"breakeven_at_r":1.50}}"#).expect("objects");
        let breakeven = signal.protection.and_then(|protection| protection.breakeven_at_r);
        assert_eq!(breakeven.expect("given").as_str(), "1.50");
        assert!(decode::<SignalBody>(br#"{"protection":null}"#).expect("null").protection.is_none());
    }
}
