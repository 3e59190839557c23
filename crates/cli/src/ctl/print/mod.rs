//! Answers in the formats of `--write-out`, byte for byte as etcdctl writes them.
//!
//! - A [`Report`] is an answer that can be shown in all of them; each is beside the command that shows it.
//! - Only some answers have a table. A command without one refuses `-w table` before it sends anything.

pub(super) mod json;
pub(super) mod table;
pub(super) mod text;

use super::failure::{Failure, code};
use crate::output;
use clap::ValueEnum;
use prost::Message;
use quorate_etcd_api::etcdserverpb::ResponseHeader;
use table::Table;
use text::Text;

/// What an answer looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Lines for people and scripts
    Simple,
    /// A table with borders, where there is one
    Table,
    /// One JSON object a line
    Json,
    /// One "name" : value a line
    Fields,
    /// The answer as it came, in protobuf
    Protobuf,
}

/// How answers are shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Printer {
    /// The format.
    pub(super) format: Format,
    /// Keys and values in hexadecimal.
    pub(super) hex: bool,
}

/// An answer that can be shown.
pub(super) trait Report {
    /// In lines.
    fn simple(&self, text: &mut Text);

    /// As fields.
    fn fields(&self, text: &mut Text);

    /// As JSON; with identifiers in hexadecimal if `hex`, where etcdctl has them so.
    fn json(&self, hex: bool) -> String;

    /// In protobuf, or none if it is not one message.
    fn protobuf(&self) -> Option<Vec<u8>>;

    /// As a table, if there is one.
    fn table(&self) -> Option<Table> {
        None
    }
}

impl Printer {
    /// Prints an answer.
    ///
    /// # Errors
    ///
    /// If it cannot be shown in this format, or not be written.
    pub(super) fn print(&self, report: &dyn Report) -> Result<(), Failure> {
        let mut text = Text::new(self.hex);
        match self.format {
            Format::Simple => report.simple(&mut text),
            Format::Fields => report.fields(&mut text),
            Format::Json => text.line(report.json(self.hex)),
            Format::Protobuf => text.raw(&report.protobuf().ok_or_else(|| unsupported("protobuf"))?),
            Format::Table => text.raw(
                report
                    .table()
                    .ok_or_else(|| unsupported("table"))?
                    .draw()
                    .as_bytes(),
            ),
        }
        Ok(output::print_bytes(&text.into_bytes())?)
    }

    /// Refuses the format of tables.
    ///
    /// # Errors
    ///
    /// If it is asked for.
    pub(super) fn has_no_table(&self) -> Result<(), Failure> {
        match self.format {
            Format::Table => Err(unsupported("table")),
            Format::Simple | Format::Json | Format::Fields | Format::Protobuf => Ok(()),
        }
    }

    /// Whether lines are wanted.
    pub(super) fn is_simple(&self) -> bool {
        self.format == Format::Simple
    }
}

fn unsupported(format: &str) -> Failure {
    Failure::with(
        code::BAD_FEATURE,
        format!("{format} not supported as output format"),
    )
}

/// An answer of which only the header is of interest, and what to say of it in a line.
pub(super) struct Done<'a, M> {
    /// The header of the message.
    pub(super) header: Option<&'a ResponseHeader>,
    /// The answer.
    pub(super) message: &'a M,
    /// The lines, without a newline at the end.
    pub(super) line: String,
}

impl<M: Message> Report for Done<'_, M> {
    fn simple(&self, text: &mut Text) {
        text.line(&self.line);
    }

    fn fields(&self, text: &mut Text) {
        text.header(self.header);
    }

    fn json(&self, _: bool) -> String {
        json::Object::new().header("header", self.header).end()
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.message.encode_to_vec())
    }
}
