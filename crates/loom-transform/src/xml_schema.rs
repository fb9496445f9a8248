//! Validation of XML documents against XSD schemas, by the crate `uppsala`.

use std::path::Path;

use uppsala::{Document, XsdValidator};

use crate::Error;

/// A schema that was read.
pub struct Schema {
    validator: XsdValidator,
}

/// Parses a document.
///
/// # Errors
/// `InvalidXml` with the place.
pub(crate) fn document(xml: &str) -> Result<Document<'_>, Error> {
    let xml = xml.trim_start_matches('\u{feff}');
    uppsala::parse(xml)
        .map_err(|error| Error::new("InvalidXml", format!("The content is not valid XML: {error}.")))
}

impl Schema {
    /// Reads a schema. Schemas that it includes or imports are looked for in `directory`; without one they are refused,
    /// because a document must never count as valid by a part of its schema.
    ///
    /// # Errors
    /// `InvalidXmlSchema` when the text is not a schema, or names one that is not there.
    pub fn read(schema: &str, directory: Option<&Path>) -> Result<Schema, Error> {
        let wrong = |message: String| Error::new("InvalidXmlSchema", message);
        let parsed = uppsala::parse(schema.trim_start_matches('\u{feff}'));
        let parsed = parsed.map_err(|error| wrong(format!("The schema is not valid XML: {error}.")))?;
        let root = parsed.document_element().and_then(|root| parsed.element(root));
        if !root.is_some_and(|root| root.matches_name_ns(uppsala::XS_NAMESPACE, "schema")) {
            return Err(wrong("The schema's root is not an xs:schema.".to_owned()));
        }
        for reference in ["include", "import", "redefine"] {
            for node in parsed.get_elements_by_tag_name_ns(uppsala::XS_NAMESPACE, reference) {
                let Some(location) = parsed.get_attribute(node, "schemaLocation") else { continue };
                let found = directory.is_some_and(|directory| {
                    // Only files that stand beside the schema: a schema must not read the machine.
                    let inside = !location.contains(['/', '\\']) && !location.starts_with('.');
                    inside && directory.join(location).is_file()
                });
                if !found {
                    let message = format!(
                        "The schema names '{location}' in its '{reference}', which is not beside it in the schemas' \
                         directory."
                    );
                    return Err(wrong(message));
                }
            }
        }
        // The library resolves locations against the directory of the file that it is given.
        let base = directory.map(|directory| directory.join("schema.xsd"));
        let validator = XsdValidator::from_schema_with_base_path(&parsed, base.as_deref())
            .map_err(|error| wrong(format!("The schema is not valid: {error}.")))?;
        Ok(Schema { validator })
    }

    /// Validates a document.
    ///
    /// # Errors
    /// `InvalidXml` when the text is not XML, `XmlValidationFailed` with up to ten findings when it does not fit.
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
