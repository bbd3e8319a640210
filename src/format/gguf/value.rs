//! Metadata values of GGUF files, and the cursor that reads them.

use std::fmt;

/// Metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `uint8`.
    U8(u8),
    /// `int8`.
    I8(i8),
    /// `uint16`.
    U16(u16),
    /// `int16`.
    I16(i16),
    /// `uint32`.
    U32(u32),
    /// `int32`.
    I32(i32),
    /// `uint64`.
    U64(u64),
    /// `int64`.
    I64(i64),
    /// `float32`.
    F32(f32),
    /// `float64`.
    F64(f64),
    /// `bool`, one byte.
    Bool(bool),
    /// `string`: `u64` length, then UTF-8.
    String(String),
    /// `string` whose bytes are not UTF-8. The bytes are kept as they are.
    Bytes(Vec<u8>),
    /// `array`: item type, `u64` length, then the items.
    Array(Array),
}

/// Array of values of one type.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Type of the items, which an empty array has too.
    pub of: ValueType,
    /// Items, all of the type `of`.
    pub items: Vec<Value>,
}

/// Type of a metadata value; the discriminants are the numbers in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs, reason = "named like the values")]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// Returns the type with the given number in the file, or `None` for an unknown number.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == id)
    }

    /// Returns the least number of bytes that a value takes in the file.
    fn least_bytes(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::String => 8,
            Self::Array => 12,
        }
    }
}

impl Value {
    /// Returns the type of the value.
    pub fn kind(&self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F32(_) => ValueType::F32,
            Value::F64(_) => ValueType::F64,
            Value::Bool(_) => ValueType::Bool,
            Value::String(_) | Value::Bytes(_) => ValueType::String,
            Value::Array(_) => ValueType::Array,
        }
    }

    /// Makes an array of strings.
    pub fn strings(items: impl IntoIterator<Item = String>) -> Self {
        Value::Array(Array { of: ValueType::String, items: items.into_iter().map(Value::String).collect() })
    }

    /// Returns an integer of any width that is not negative; `None` for other values.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Value::U8(x) => Some(u64::from(*x)),
            Value::U16(x) => Some(u64::from(*x)),
            Value::U32(x) => Some(u64::from(*x)),
            Value::U64(x) => Some(*x),
            Value::I8(x) => u64::try_from(*x).ok(),
            Value::I16(x) => u64::try_from(*x).ok(),
            Value::I32(x) => u64::try_from(*x).ok(),
            Value::I64(x) => u64::try_from(*x).ok(),
            _ => None,
        }
    }

    /// Returns an integer of any width that fits in `i64`; `None` for other values.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::I8(x) => Some(i64::from(*x)),
            Value::I16(x) => Some(i64::from(*x)),
            Value::I32(x) => Some(i64::from(*x)),
            Value::I64(x) => Some(*x),
            _ => self.as_u64().and_then(|x| i64::try_from(x).ok()),
        }
    }

    /// Returns a float of either width; `None` for other values.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::F32(x) => Some(f64::from(*x)),
            Value::F64(x) => Some(*x),
            _ => None,
        }
    }

    /// Returns a boolean; `None` for other values.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(x) => Some(*x),
            _ => None,
        }
    }

    /// Returns a string; `None` for other values.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(x) => Some(x),
            _ => None,
        }
    }

    /// Returns the items of an array; `None` for other values.
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(array) => Some(&array.items),
            _ => None,
        }
    }

    /// Appends the value in the file's encoding, without its type.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::U8(x) => out.push(*x),
            Value::I8(x) => out.extend(x.to_le_bytes()),
            Value::U16(x) => out.extend(x.to_le_bytes()),
            Value::I16(x) => out.extend(x.to_le_bytes()),
            Value::U32(x) => out.extend(x.to_le_bytes()),
            Value::I32(x) => out.extend(x.to_le_bytes()),
            Value::U64(x) => out.extend(x.to_le_bytes()),
            Value::I64(x) => out.extend(x.to_le_bytes()),
            Value::F32(x) => out.extend(x.to_le_bytes()),
            Value::F64(x) => out.extend(x.to_le_bytes()),
            Value::Bool(x) => out.push(u8::from(*x)),
            Value::String(x) => write_string(x.as_bytes(), out),
            Value::Bytes(x) => write_string(x, out),
            Value::Array(Array { of, items }) => {
                out.extend((*of as u32).to_le_bytes());
                out.extend((items.len() as u64).to_le_bytes());
                items.iter().for_each(|item| item.write(out));
            }
        }
    }
}

/// Short form for messages: of an array, only the length is shown.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::U8(x) => write!(f, "{x}"),
            Value::I8(x) => write!(f, "{x}"),
            Value::U16(x) => write!(f, "{x}"),
            Value::I16(x) => write!(f, "{x}"),
            Value::U32(x) => write!(f, "{x}"),
            Value::I32(x) => write!(f, "{x}"),
            Value::U64(x) => write!(f, "{x}"),
            Value::I64(x) => write!(f, "{x}"),
            Value::F32(x) => write!(f, "{x}"),
            Value::F64(x) => write!(f, "{x}"),
            Value::Bool(x) => write!(f, "{x}"),
            Value::String(x) => write!(f, "{x:?}"),
            Value::Bytes(x) => write!(f, "{} bytes that are not UTF-8 text", x.len()),
            Value::Array(array) => write!(f, "a list of {}", array.items.len()),
        }
    }
}

pub(super) fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text);
}

/// Reason why reading stopped.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The given bytes end here, and the file may go on.
    Short,
    /// The file is inconsistent; the message does not have the file's name.
    Lie(String),
    /// What is named takes more memory than is left for the header.
    Large(String),
}

/// Deepest nesting of arrays that is accepted.
const MAX_DEPTH: usize = 4;

/// Reader of the front of a file, of which only a part may be at hand.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    file_bytes: u64,
    /// Bytes of memory that what is read may still take.
    memory: u64,
}

type Read<T> = std::result::Result<T, Trouble>;

impl<'a> Cursor<'a> {
    /// Starts at the first byte of a file of `file_bytes` bytes that begins with `bytes`. What is read may take
    /// `memory` bytes of memory.
    pub fn new(bytes: &'a [u8], file_bytes: u64, memory: u64) -> Self {
        Self { bytes, at: 0, file_bytes, memory }
    }

    /// Takes `bytes` from the memory that is left for what is read.
    pub fn spend(&mut self, bytes: usize, what: &str) -> Read<()> {
        match self.memory.checked_sub(bytes as u64) {
            Some(left) => {
                self.memory = left;
                Ok(())
            }
            None => Err(Trouble::Large(what.to_owned())),
        }
    }

    /// Returns the number of bytes read so far.
    pub fn position(&self) -> u64 {
        self.at as u64
    }

    fn take(&mut self, length: u64, what: &str) -> Read<&'a [u8]> {
        if length > self.left_in_file() {
            return Err(Trouble::Lie(format!("{what} runs past the end of the file")));
        }
        let end = usize::try_from(length).ok().and_then(|n| self.at.checked_add(n)).ok_or(Trouble::Short)?;
        let taken = self.bytes.get(self.at..end).ok_or(Trouble::Short)?;
        self.at = end;
        Ok(taken)
    }

    fn left_in_file(&self) -> u64 {
        self.file_bytes.saturating_sub(self.position())
    }

    fn array<const N: usize>(&mut self, what: &str) -> Read<[u8; N]> {
        let taken = self.take(N as u64, what)?;
        taken.try_into().map_err(|_| Trouble::Short)
    }

    /// Reads a `uint32`.
    pub fn u32(&mut self, what: &str) -> Read<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// Reads a `uint64`.
    pub fn u64(&mut self, what: &str) -> Read<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// Reads the number of entries that follow, each of at least `least` bytes, and checks that the file has
    /// room for them.
    pub fn count(&mut self, least: u64, what: &str) -> Read<usize> {
        let count = self.u64(what)?;
        let room = self.left_in_file() / least.max(1);
        match usize::try_from(count) {
            Ok(n) if count <= room => Ok(n),
            _ => Err(Trouble::Lie(format!("{what} claims {count} entries, more than the file can hold"))),
        }
    }

    /// Reads the bytes of a `string`, and takes them from the memory.
    fn string_bytes(&mut self, what: &str) -> Read<&'a [u8]> {
        let length = self.u64(what)?;
        let bytes = self.take(length, what)?;
        self.spend(bytes.len(), what)?;
        Ok(bytes)
    }

    /// Reads a `string`, which must be text.
    pub fn string(&mut self, what: &str) -> Read<String> {
        match std::str::from_utf8(self.string_bytes(what)?) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Trouble::Lie(format!("{what} is not UTF-8 text"))),
        }
    }

    /// Reads a type and a value of that type.
    pub fn typed_value(&mut self, what: &str) -> Read<Value> {
        let kind = self.value_type(what)?;
        self.value(kind, what, 0)
    }

    fn value_type(&mut self, what: &str) -> Read<ValueType> {
        let id = self.u32(what)?;
        ValueType::from_id(id)
            .ok_or_else(|| Trouble::Lie(format!("{what} is of type {id}, which nobody knows")))
    }

    fn value(&mut self, kind: ValueType, what: &str, depth: usize) -> Read<Value> {
        Ok(match kind {
            ValueType::U8 => Value::U8(u8::from_le_bytes(self.array(what)?)),
            ValueType::I8 => Value::I8(i8::from_le_bytes(self.array(what)?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(self.array(what)?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(self.array(what)?)),
            ValueType::U32 => Value::U32(u32::from_le_bytes(self.array(what)?)),
            ValueType::I32 => Value::I32(i32::from_le_bytes(self.array(what)?)),
            ValueType::U64 => Value::U64(u64::from_le_bytes(self.array(what)?)),
            ValueType::I64 => Value::I64(i64::from_le_bytes(self.array(what)?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(self.array(what)?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(self.array(what)?)),
            ValueType::Bool => match self.array(what)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(Trouble::Lie(format!("{what} is {other}, neither true nor false"))),
            },
            ValueType::String => {
                let bytes = self.string_bytes(what)?;
                match std::str::from_utf8(bytes) {
                    Ok(text) => Value::String(text.to_owned()),
                    Err(_) => Value::Bytes(bytes.to_vec()),
                }
            }
            ValueType::Array if depth == MAX_DEPTH => {
                return Err(Trouble::Lie(format!("{what} nests lists more than {MAX_DEPTH} deep")));
            }
            ValueType::Array => {
                let of = self.value_type(what)?;
                let count = self.count(of.least_bytes(), what)?;
                // A wrong count alone must not reserve memory: the bytes of the items must be at hand.
                let at_hand = self.bytes.len().saturating_sub(self.at) as u64 / of.least_bytes();
                if (count as u64) > at_hand {
                    return Err(Trouble::Short);
                }
                self.spend(count.saturating_mul(size_of::<Value>()), what)?;
                let mut items = Vec::new();
                items.try_reserve_exact(count).map_err(|_| Trouble::Large(what.to_owned()))?;
                for _ in 0..count {
                    items.push(self.value(of, what, depth + 1)?);
                }
                Value::Array(Array { of, items })
            }
        })
    }
}
