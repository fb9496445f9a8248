//! Validates XML documents against XSD schemas, with the crate `uppsala`.

use std::path::Path;

use uppsala::{Document, XsdValidator};

use crate::Error;

/// A parsed XSD schema.
pub struct Schema {
    validator: XsdValidator,
}

/// Parses a document.
///
/// # Errors
/// `InvalidXml` with the position of the error.
pub(crate) fn document(xml: &str) -> Result<Document<'_>, Error> {
    let xml = xml.trim_start_matches('\u{feff}');
    uppsala::parse(xml)
        .map_err(|error| Error::new("InvalidXml", format!("The content is not valid XML: {error}.")))
}

impl Schema {
    /// Parses a schema. Schemas that it includes or imports are read from `directory`. A schema that cannot be found is
    /// an error, because a document must not be validated against a part of its schema.
    ///
    /// # Errors
    /// `InvalidXmlSchema` if the text is not a schema, or includes or imports one that cannot be found.
    pub fn read(schema: &str, directory: Option<&Path>) -> Result<Schema, Error> {
        let wrong = |message: String| Error::new("InvalidXmlSchema", message);
        let parsed = uppsala::parse(schema.trim_start_matches('\u{feff}'));
        let parsed = parsed.map_err(|error| wrong(format!("The schema is not valid XML: {error}.")))?;
        let root = parsed.document_element().and_then(|root| parsed.element(root));
        if !root.is_some_and(|root| root.matches_name_ns(uppsala::XS_NAMESPACE, "schema")) {
            return Err(wrong("The root element of the schema must be xs:schema.".to_owned()));
        }
        for reference in ["include", "import", "redefine"] {
            for node in parsed.get_elements_by_tag_name_ns(uppsala::XS_NAMESPACE, reference) {
                let Some(location) = parsed.get_attribute(node, "schemaLocation") else { continue };
                let found = directory.is_some_and(|directory| {
                    // Only files in the same directory: a schema must not read other files of the machine.
                    let inside = !location.contains(['/', '\\']) && !location.starts_with('.');
                    inside && directory.join(location).is_file()
                });
                if !found {
                    let message = format!(
                        "The schema '{location}' of xs:{reference} was not found; it must be in the same directory \
                        as the schema that refers to it."
                    );
                    return Err(wrong(message));
                }
            }
        }
        // Locations are relative to this directory. The library takes a file's parent, but only if the file exists, and
        // the schema is known here by its text alone; so it gets the directory itself.
        let validator = XsdValidator::from_schema_with_base_path(&parsed, directory)
            .map_err(|error| wrong(format!("The schema is not valid: {error}.")))?;
        Ok(Schema { validator })
    }

    /// Validates a document.
    ///
    /// # Errors
    /// `InvalidXml` if the text is not XML, `XmlValidationFailed` with up to ten violations if it does not conform.
    pub fn validate(&self, xml: &str) -> Result<(), Error> {
        const SHOWN: usize = 10;
        let findings = self.validator.validate(&document(xml)?);
        if findings.is_empty() {
            return Ok(());
        }
        let mut shown: Vec<String> = findings.iter().take(SHOWN).map(ToString::to_string).collect();
        if findings.len() > SHOWN {
            shown.push(format!("and {} more", findings.len() - SHOWN));
        }
        let message = format!("The XML content does not conform to the schema: {}.", shown.join("; "));
        Err(Error::new("XmlValidationFailed", message))
    }
}

#[cfg(test)]
mod tests;
