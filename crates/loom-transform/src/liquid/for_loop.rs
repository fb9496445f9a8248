//! The `for` loop: over arrays, ranges and objects, with DotLiquid's `forloop.First` beside Liquid's `forloop.first`.

use std::io::Write;

use liquid_core::{
    BlockReflection, Expression, Language, ParseBlock, Renderable, Result, Runtime, TagBlock, TagTokenIter,
    model::{Object, Value, ValueView},
    parser::{BlockElement, TryMatchToken},
    runtime::{Interrupt, InterruptRegister, Template},
};

use super::runtime::Iteration;

/// The limit on the iterations of one loop.
const ITEMS_MAX: usize = 1_000_000;

/// The block `for … endfor`.
#[derive(Clone, Copy, Debug)]
pub(super) struct ForLoop;

impl BlockReflection for ForLoop {
    fn start_tag(&self) -> &'static str {
        "for"
    }

    fn end_tag(&self) -> &'static str {
        "endfor"
    }

    fn description(&self) -> &'static str {
        "Renders its content once for each item."
    }
}

impl ParseBlock for ForLoop {
    fn parse(
        &self,
        mut arguments: TagTokenIter<'_>,
        mut tokens: TagBlock<'_, '_>,
        options: &Language,
    ) -> Result<Box<dyn Renderable>> {
        let variable =
            arguments.expect_next("expected a name")?.expect_identifier().into_result()?.to_owned();
        arguments.expect_next("expected 'in'")?.expect_str("in").into_result_custom_msg("expected 'in'")?;
        let items = match arguments.expect_next("expected an array or a range")?.expect_value() {
            TryMatchToken::Matches(array) => Items::Of(array),
            TryMatchToken::Fails(token) => match token.expect_range() {
                TryMatchToken::Matches((from, to)) => Items::Range(from, to),
                TryMatchToken::Fails(token) => return Err(token.raise_error()),
            },
        };
        let (mut limit, mut offset, mut reversed) = (None, None, false);
        while let Some(token) = arguments.next() {
            match token.as_str().to_ascii_lowercase().as_str() {
                "limit" => limit = Some(attribute(&mut arguments)?),
                "offset" => offset = Some(attribute(&mut arguments)?),
                "reversed" => reversed = true,
                _ => return Err(token.raise_custom_error("expected 'limit', 'offset' or 'reversed'")),
            }
        }
        let (mut body, mut otherwise) = (Vec::new(), None);
        while let Some(element) = tokens.next()? {
            match element {
                BlockElement::Tag(mut tag) if tag.name() == "else" => {
                    tag.tokens().expect_nothing()?;
                    otherwise = Some(Template::new(tokens.parse_all(options)?));
                    break;
                }
                element => body.push(element.parse(&mut tokens, options)?),
            }
        }
        tokens.assert_empty();
        Ok(Box::new(For { variable, items, body: Template::new(body), otherwise, limit, offset, reversed }))
    }

    fn reflection(&self) -> &dyn BlockReflection {
        self
    }
}

fn attribute(arguments: &mut TagTokenIter<'_>) -> Result<Expression> {
    arguments.expect_next("expected ':'")?.expect_str(":").into_result_custom_msg("expected ':'")?;
    arguments.expect_next("expected a value")?.expect_value().into_result()
}

#[derive(Debug)]
enum Items {
    Of(Expression),
    Range(Expression, Expression),
}

#[derive(Debug)]
struct For {
    variable: String,
    items: Items,
    body: Template,
    otherwise: Option<Template>,
    limit: Option<Expression>,
    offset: Option<Expression>,
    reversed: bool,
}

impl For {
    fn items(&self, runtime: &dyn Runtime) -> Result<Vec<Value>> {
        let number = |expression: &Expression| -> Result<i64> {
            let value = expression.evaluate(runtime)?;
            Ok(value.as_scalar().and_then(|scalar| scalar.to_integer()).unwrap_or_default())
        };
        let mut items = match &self.items {
            Items::Range(from, to) => {
                let (from, to) = (number(from)?, number(to)?);
                if to.saturating_sub(from) >= ITEMS_MAX as i64 {
                    let message = format!("a loop must have at most {ITEMS_MAX} iterations");
                    return Err(liquid_core::Error::with_msg(message));
                }
                (from..=to).map(Value::scalar).collect()
            }
            Items::Of(expression) => items_of(expression.evaluate(runtime)?.into_owned()),
        };
        let offset = self.offset.as_ref().map(number).transpose()?.unwrap_or_default();
        items.drain(..usize::try_from(offset).unwrap_or_default().min(items.len()));
        if let Some(limit) = self.limit.as_ref().map(number).transpose()? {
            items.truncate(usize::try_from(limit).unwrap_or_default());
        }
        if self.reversed {
            items.reverse();
        }
        Ok(items)
    }
}

/// The items of a loop: those of an array, or the properties of an object as pairs of name and value.
fn items_of(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        Value::Object(members) => {
            // The library's objects have no defined order, so they are sorted.
            let mut members: Vec<_> = members.into_iter().collect();
            members.sort_by(|(left, _), (right, _)| left.cmp(right));
            let pairs = members.into_iter().map(|(name, value)| {
                let key = Value::scalar(name.into_string());
                let pair: Object = [("Key".into(), key), ("Value".into(), value)].into_iter().collect();
                Value::Object(pair)
            });
            pairs.collect()
        }
        _ => Vec::new(),
    }
}

/// The `forloop` object, with DotLiquid's and Liquid's names.
fn position(index: usize, length: usize) -> Value {
    let index = index as i64;
    let length = length as i64;
    let members = [
        ("index", "Index", Value::scalar(index + 1)),
        ("index0", "Index0", Value::scalar(index)),
        ("rindex", "Rindex", Value::scalar(length - index)),
        ("rindex0", "Rindex0", Value::scalar(length - index - 1)),
        ("first", "First", Value::scalar(index == 0)),
        ("last", "Last", Value::scalar(index + 1 == length)),
        ("length", "Length", Value::scalar(length)),
    ];
    let both = members
        .into_iter()
        .flat_map(|(ruby, dot, value)| [(ruby.into(), value.clone()), (dot.into(), value)]);
    Value::Object(both.collect())
}

impl Renderable for For {
    fn render_to(&self, writer: &mut dyn Write, runtime: &dyn Runtime) -> Result<()> {
        let items = self.items(runtime)?;
        if items.is_empty() {
            return self.otherwise.as_ref().map_or(Ok(()), |template| template.render_to(writer, runtime));
        }
        for (index, item) in items.iter().enumerate() {
            let forloop = position(index, items.len());
            let scope = Iteration { outer: runtime, variable: &self.variable, item, forloop: &forloop };
            self.body.render_to(writer, &scope)?;
            let interrupt = scope.registers().get_mut::<InterruptRegister>().reset();
            if matches!(interrupt, Some(Interrupt::Break)) {
                break;
            }
        }
        Ok(())
    }
}
