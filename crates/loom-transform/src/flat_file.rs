//! Flat files: delimited and positional text to XML and back, by an XSD schema with flat-file annotations.
//!
//! Source of the rules: Microsoft's documentation of the annotations (`recordInfo`, `fieldInfo`, `schemaInfo` in the
//! namespace `http://schemas.microsoft.com/BizTalk/2003`). Positions and lengths count characters.

mod decode;
mod encode;
mod notes;

use crate::{Error, tree::Shape};

/// A flat-file schema that was read.
#[derive(Clone, Debug)]
pub struct FlatFile {
    shape: Shape,
}

impl FlatFile {
    /// Reads a schema.
    ///
    /// # Errors
    /// `InvalidXmlSchema` when the text is not a schema with an element to begin with.
    pub fn read(schema: &str) -> Result<FlatFile, Error> {
        Shape::read(schema).map(|shape| FlatFile { shape })
    }

    /// Text as the XML document that the schema describes.
    ///
    /// # Errors
    /// `FlatFileDecodingFailed` when the text does not fit the schema; the message names the record or field.
    pub fn decode(&self, text: &str) -> Result<String, Error> {
        decode::decode(&self.shape, text)
    }

    /// An XML document as text.
    ///
    /// # Errors
    /// `InvalidXml` when the content is not XML, `FlatFileEncodingFailed` when it does not fit the schema.
    pub fn encode(&self, xml: &str) -> Result<String, Error> {
        encode::encode(&self.shape, xml)
    }
}

#[cfg(test)]
mod tests;
