//! Strict reader of comma-separated values as in RFC 4180.

use std::iter::Peekable;
use std::str::CharIndices;

use crate::{Error, Result};

/// A line of fields, or several lines where a quoted field holds line breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Number of the line on which the record begins, from 1.
    pub line: usize,
    /// Fields without their quotes.
    pub fields: Vec<String>,
}

/// Splits `text` into records; empty lines are skipped. A field is quoted if it begins with a quote, and then
/// may hold commas, line breaks and doubled quotes. A quote inside an unquoted field is a character like any
/// other. Lines end in LF, CR or both.
///
/// # Errors
/// [`Error::Format`], naming `file` and the line, if a quoted field does not end, or if its end is followed
/// by anything but a comma or a line break.
pub fn records(file: &str, text: &str) -> Result<Vec<Record>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { file, text, chars: text.char_indices().peekable(), line: 1 };
    let mut records = Vec::new();
    while reader.chars.peek().is_some() {
        let line = reader.line;
        let fields = reader.record()?;
        if fields.len() > 1 || fields.iter().any(|field| !field.is_empty()) {
            records.push(Record { line, fields });
        }
    }
    Ok(records)
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
    line: usize,
}

impl Reader<'_> {
    /// Reads the fields up to the end of the line, and the line break.
    fn record(&mut self) -> Result<Vec<String>> {
        let mut fields = Vec::new();
        loop {
            let quoted = matches!(self.chars.peek(), Some((_, '"')));
            fields.push(if quoted { self.quoted()? } else { self.plain() });
            match self.advance() {
                Some(',') => {}
                None | Some('\n') => return Ok(fields),
                Some(other) => {
                    return Err(
                        self.error(self.line, &format!("{other:?} follows the end of a quoted field"))
                    );
                }
            }
        }
    }

    fn plain(&mut self) -> String {
        let mut field = String::new();
        while let Some((_, c)) = self.chars.next_if(|(_, c)| !matches!(c, ',' | '\n' | '\r')) {
            field.push(c);
        }
        field
    }

    fn quoted(&mut self) -> Result<String> {
        let (began, mut field) = (self.line, String::new());
        self.chars.next();
        loop {
            let place = self.chars.peek().map_or(self.text.len(), |(place, _)| *place);
            match self.advance() {
                Some('"') => match self.chars.next_if(|(_, c)| *c == '"') {
                    Some(_) => field.push('"'),
                    None => return Ok(field),
                },
                // A quoted field keeps its line breaks unchanged.
                Some('\n') if self.text.get(place..).is_some_and(|rest| rest.starts_with("\r\n")) => {
                    field.push_str("\r\n");
                }
                Some('\n') if self.text.get(place..).is_some_and(|rest| rest.starts_with('\r')) => {
                    field.push('\r');
                }
                Some(c) => field.push(c),
                None => return Err(self.error(began, "a quoted field begins here and does not end")),
            }
        }
    }

    /// Takes the next character. Every kind of line break is returned as `\n`.
    fn advance(&mut self) -> Option<char> {
        let (_, c) = self.chars.next()?;
        let is_break = matches!(c, '\n' | '\r');
        if c == '\r' {
            self.chars.next_if(|(_, c)| *c == '\n');
        }
        self.line += usize::from(is_break);
        Some(if is_break { '\n' } else { c })
    }

    fn error(&self, line: usize, what: &str) -> Error {
        Error::Format(format!("{}, line {line}: {what}; download the file again", self.file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Vec<Vec<String>> {
        records("x.csv", text).unwrap().into_iter().map(|record| record.fields).collect()
    }

    #[test]
    fn quoted_fields_hold_commas_quotes_and_line_breaks() {
        assert_eq!(fields("a,b\nc,d"), [["a", "b"], ["c", "d"]]);
        assert_eq!(fields("\"a, b\",\"say \"\"x\"\"\"\r\nc,d\r\n"), [["a, b", "say \"x\""], ["c", "d"]]);
        assert_eq!(fields("\"one\ntwo\r\nthree\rfour\",b\n"), [["one\ntwo\r\nthree\rfour", "b"]]);
        assert_eq!(fields("\"\",\n\"\"\"\",b"), [["", ""], ["\"", "b"]]);
    }

    #[test]
    fn quotes_inside_are_plain_and_so_are_spaces() {
        assert_eq!(fields("a \"b\" c, d \n"), [["a \"b\" c", " d "]]);
        assert_eq!(fields("ä,\u{2028}ö"), [["ä", "\u{2028}ö"]]);
    }

    #[test]
    fn empty_lines_and_a_byte_order_mark_are_passed_over() {
        assert_eq!(fields("\u{feff}a,b\r\r\n\nc,d\n\n"), [["a", "b"], ["c", "d"]]);
        assert!(fields("").is_empty() && fields("\n\n").is_empty());
        let lines: Vec<usize> =
            records("x.csv", "\na,\"b\n\"\nc,d").unwrap().iter().map(|r| r.line).collect();
        assert_eq!(lines, [2, 4]);
    }

    #[test]
    fn broken_quoting_is_an_error_with_its_line() {
        let error = |text| records("x.csv", text).unwrap_err().to_string();
        assert!(error("a,b\n\"c,d\ne").starts_with("x.csv, line 2: a quoted field begins here"));
        assert!(error("a,b\n\n\"c\"d,e").starts_with("x.csv, line 3: 'd' follows"));
    }
}
