//! Cuts a body in which JSON objects follow each other into single ones, as they arrive.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;
use tonic::Status;

/// The objects of one body. Each byte is looked at once.
pub(super) struct Documents {
    unread: BytesMut,
    /// So many bytes of what is unread have been looked at.
    seen: usize,
    /// So many brackets are open there.
    depth: usize,
    place: Place,
    max_bytes: usize,
}

/// Where the next byte is.
#[derive(Clone, Copy)]
enum Place {
    Plain,
    Text,
    /// In a text, after a backslash.
    Escape,
}

/// A body is no sequence of objects.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum DocumentsError {
    /// Something else than an object begins.
    #[error("quorate: each message of a stream must be a JSON object")]
    NoObject,
    /// An object goes on for too long.
    #[error("quorate: a message of the stream is longer than {0} bytes")]
    TooLong(usize),
    /// The body ended within an object.
    #[error("quorate: the request ends within a JSON object")]
    Unfinished,
}

impl From<DocumentsError> for Status {
    fn from(error: DocumentsError) -> Status {
        Status::invalid_argument(error.to_string())
    }
}

impl Documents {
    /// A body that is yet to come, of objects of this size and smaller.
    pub(super) fn new(max_bytes: usize) -> Documents {
        Documents {
            unread: BytesMut::new(),
            seen: 0,
            depth: 0,
            place: Place::Plain,
            max_bytes,
        }
    }

    /// Takes the next piece of the body.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.unread.extend_from_slice(piece);
    }

    /// The next object, if all of it has arrived. Whether it is JSON within is for its reader to find out.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, DocumentsError> {
        if self.depth == 0 {
            self.skip_space();
            if self.unread.first().is_some_and(|&first| first != b'{') {
                return Err(DocumentsError::NoObject);
            }
        }
        while let Some(&byte) = self.unread.get(self.seen) {
            self.seen += 1;
            if self.seen > self.max_bytes {
                return Err(DocumentsError::TooLong(self.max_bytes));
            }
            self.look_at(byte);
            if self.depth == 0 {
                let object = self.unread.split_to(self.seen);
                self.seen = 0;
                return Ok(Some(object.freeze()));
            }
        }
        Ok(None)
    }

    /// Whether nothing has come of another object.
    pub(super) fn is_between(&self) -> bool {
        self.unread.is_empty()
    }

    /// Whether the body may end here.
    pub(super) fn end(&mut self) -> Result<(), DocumentsError> {
        self.skip_space();
        match self.unread.is_empty() {
            true => Ok(()),
            false => Err(DocumentsError::Unfinished),
        }
    }

    fn skip_space(&mut self) {
        let space = self.unread.iter().take_while(|byte| byte.is_ascii_whitespace());
        if self.depth == 0 {
            self.unread.advance(space.count());
        }
    }

    fn look_at(&mut self, byte: u8) {
        self.place = match (self.place, byte) {
            (Place::Plain, b'"') | (Place::Escape, _) => Place::Text,
            (Place::Text, b'\\') => Place::Escape,
            (Place::Text, b'"') => Place::Plain,
            (Place::Plain, b'{' | b'[') => {
                self.depth += 1;
                Place::Plain
            }
            (Place::Plain, b'}' | b']') => {
                self.depth -= 1;
                Place::Plain
            }
            (place, _) => place,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The objects of a body that arrives in pieces of this size.
    fn cut(body: &str, piece: usize) -> Result<Vec<String>, DocumentsError> {
        let mut documents = Documents::new(64);
        let mut found = Vec::new();
        for piece in body.as_bytes().chunks(piece) {
            documents.push(piece);
            while let Some(object) = documents.next()? {
                found.push(String::from_utf8(object.to_vec()).unwrap());
            }
        }
        documents.end()?;
        Ok(found)
    }

    #[test]
    fn objects_are_cut_wherever_the_pieces_end() {
        let objects = [r#"{}"#, r#"{"a":[{"b":"}"}]}"#, r#"{"\"{":"\\"}"#, "{\"é\":\n1}"];
        for separator in ["", "\n", " \r\n\t"] {
            let body = objects.join(separator) + separator;
            for piece in 1..=body.len() {
                assert_eq!(cut(&body, piece).unwrap(), objects, "{body:?} by {piece}");
            }
        }
    }

    #[test]
    fn what_is_no_sequence_of_objects_is_refused() {
        use DocumentsError::*;
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(100));
        for piece in [1, 7, 1000] {
            for body in ["[]", "}", "1", r#""{}""#, "{},{}", "\u{feff}{}"] {
                assert_eq!(cut(body, piece), Err(NoObject), "{body}");
            }
            for body in ["{", r#"{"}"#, r#"{"\"}"#, "{[}"] {
                assert_eq!(cut(body, piece), Err(Unfinished), "{body}");
            }
            assert_eq!(cut(&long, piece), Err(TooLong(64)));
        }
    }

    #[test]
    fn an_object_may_be_as_long_as_is_said_and_no_longer() {
        let object = |length: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(length - 8));
        for piece in [1, 7, 1000] {
            assert_eq!(cut(&object(64), piece).unwrap(), [object(64)]);
            assert_eq!(cut(&object(65), piece), Err(DocumentsError::TooLong(64)));
        }
    }

    #[test]
    fn brackets_that_do_not_match_are_left_to_the_reader() {
        assert_eq!(cut("{]{}", 1).unwrap(), ["{]", "{}"]);
    }
}
