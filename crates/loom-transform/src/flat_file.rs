//! Flat files: converts delimited and positional text to XML and back, by an XSD schema with flat-file annotations.
//!
//! The rules follow Microsoft's documentation of the annotations (`recordInfo`, `fieldInfo`, `schemaInfo` in the
//! namespace `http://schemas.microsoft.com/BizTalk/2003`). Positions and lengths count characters.

mod decode;
mod encode;
mod notes;

use crate::{Error, tree::Shape};

/// A parsed flat-file schema.
#[derive(Clone, Debug)]
pub struct FlatFile {
    shape: Shape,
}

impl FlatFile {
    /// Parses a schema.
    ///
    /// # Errors
    /// `InvalidXmlSchema` if the text is not an XSD schema that declares a root element.
    pub fn read(schema: &str) -> Result<FlatFile, Error> {
        Shape::read(schema).map(|shape| FlatFile { shape })
    }

    /// Converts flat-file text to the XML document that the schema describes.
    ///
    /// # Errors
    /// `FlatFileDecodingFailed` if the text does not match the schema; the message names the record or field.
    pub fn decode(&self, text: &str) -> Result<String, Error> {
        decode::decode(&self.shape, text)
    }

    /// Converts an XML document to flat-file text.
    ///
    /// # Errors
    /// `InvalidXml` if the content is not XML, `FlatFileEncodingFailed` if it does not match the schema.
    pub fn encode(&self, xml: &str) -> Result<String, Error> {
        encode::encode(&self.shape, xml)
    }
}

#[cfg(test)]
mod tests;
