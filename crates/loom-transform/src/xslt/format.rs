//! Number formats of `format-number()` and `xsl:number`.

/// Formats a number with a pattern of the JDK's `DecimalFormat`, as XSLT 1.0 specifies (section 12.3).
pub(super) fn format_number(number: f64, pattern: &str) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    let (positive, negative) =
        pattern.split_once(';').map_or((pattern, None), |(left, right)| (left, Some(right)));
    let chosen = match negative {
        Some(negative) if number < 0.0 => negative,
        _ => positive,
    };
    let is_digit = |c: char| matches!(c, '#' | '0' | ',' | '.');
    let start = chosen.find(is_digit).unwrap_or(chosen.len());
    let end = chosen.rfind(is_digit).map_or(start, |end| end + 1);
    let (prefix, digits, suffix) = (&chosen[..start], &chosen[start..end], &chosen[end..]);
    let scale = if chosen.contains('%') {
        100.0
    } else if chosen.contains('\u{2030}') {
        1000.0
    } else {
        1.0
    };
    let magnitude = (number * scale).abs();
    let sign = if number < 0.0 && negative.is_none() { "-" } else { "" };
    if magnitude.is_infinite() {
        return format!("{sign}{prefix}Infinity{suffix}");
    }
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let least_whole = whole.matches('0').count();
    let group = whole.rfind(',').map(|at| whole.len() - at - 1).filter(|size| *size > 0);
    let least = fraction.matches('0').count();
    let most = fraction.chars().filter(|c| matches!(c, '0' | '#')).count();
    let rounded = half_even(magnitude, most);
    let (mut integer, mut decimals) = match rounded.split_once('.') {
        Some((integer, decimals)) => (integer.to_owned(), decimals.to_owned()),
        None => (rounded, String::new()),
    };
    while decimals.len() > least && decimals.ends_with('0') {
        decimals.pop();
    }
    if least_whole == 0 && integer == "0" && !decimals.is_empty() {
        integer.clear();
    }
    while integer.len() < least_whole {
        integer.insert(0, '0');
    }
    if let Some(size) = group {
        let mut grouped = String::new();
        for (at, digit) in integer.chars().enumerate() {
            if at > 0 && (integer.len() - at).is_multiple_of(size) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        integer = grouped;
    }
    let point = if decimals.is_empty() { "" } else { "." };
    format!("{sign}{prefix}{integer}{point}{decimals}{suffix}")
}

/// Rounds the shortest decimal text of the number to a number of places, halves to even.
fn half_even(number: f64, places: usize) -> String {
    use loom_expression::Decimal;
    match number.to_string().parse::<Decimal>() {
        Ok(exact) => {
            let rounded = exact.round_dp(u32::try_from(places).unwrap_or(28).min(28));
            format!("{rounded:.places$}")
        }
        Err(_) => format!("{number:.places$}"),
    }
}

/// Formats a position for `xsl:number` with the format `1`, `01`, `a`, `A`, `i` or `I`, and the text around it.
pub(super) fn format_position(number: f64, format: &str) -> String {
    let start = format.find(char::is_alphanumeric).unwrap_or(format.len());
    let end = format.rfind(char::is_alphanumeric).map_or(start, |at| at + 1);
    let token = &format[start..end];
    let value = number.round().max(0.0) as u64;
    let shown = match token.chars().next() {
        Some('a') => letters(value).to_lowercase(),
        Some('A') => letters(value),
        Some('i') => roman(value).to_lowercase(),
        Some('I') => roman(value),
        _ => format!("{value:0width$}", width = token.len().max(1)),
    };
    format!("{}{shown}{}", &format[..start], &format[end..])
}

fn letters(mut value: u64) -> String {
    let mut text = Vec::new();
    while value > 0 {
        value -= 1;
        text.push(b'A' + (value % 26) as u8);
        value /= 26;
    }
    text.iter().rev().map(|byte| char::from(*byte)).collect()
}

fn roman(mut value: u64) -> String {
    const STEPS: [(u64, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    if !(1..4000).contains(&value) {
        return value.to_string();
    }
    let mut text = String::new();
    for (step, sign) in STEPS {
        while value >= step {
            text.push_str(sign);
            value -= step;
        }
    }
    text
}
