//! The text of HTML, roughly: tags go, entities are read, white space becomes one blank. For posts, which are short and simple.

use nearcast_domain::decode::MAX_TEXT_BYTES;

/// The text, cut off where it is longer than an event may be.
pub(super) fn text(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        push(&mut out, &rest[..at]);
        rest = &rest[at..];
        if rest.starts_with('<') {
            let end = rest.find('>').map_or(rest.len(), |e| e + 1);
            // A tag counts as a blank: most part paragraphs.
            push(&mut out, " ");
            rest = &rest[end..];
        } else {
            let (c, length) = entity(rest);
            push(&mut out, c.encode_utf8(&mut [0; 4]));
            rest = &rest[length..];
        }
    }
    push(&mut out, rest);
    cut(out.trim())
}

/// At most as long as the text of an event, on the border of a character.
pub(super) fn cut(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn push(out: &mut String, text: &str) {
    for c in text.chars() {
        if !c.is_whitespace() && c != '\0' {
            out.push(c);
        } else if !out.ends_with(' ') {
            out.push(' ');
        }
    }
}

/// The character of an entity at the beginning of `text`, and how long it is there.
fn entity(text: &str) -> (char, usize) {
    let Some(end) = text.find(';').filter(|e| *e <= 10) else { return ('&', 1) };
    let name = &text[1..end];
    let number = name.strip_prefix('#').and_then(|n| match n.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => n.parse().ok(),
    });
    let found = match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some(' '),
        "hellip" => Some('…'),
        "ndash" => Some('–'),
        "mdash" => Some('—'),
        _ => number.and_then(char::from_u32),
    };
    found.map_or(('&', 1), |c| (c, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_entities() {
        assert_eq!(
            text("<p>Hops &amp; malt</p>\n\n<p>2 &lt; 3 &#233; &#x2713; &nope; AT&T</p>"),
            "Hops & malt 2 < 3 é ✓ &nope; AT&T"
        );
        assert_eq!(text("<a href=\"x\">unclosed"), "unclosed");
        assert_eq!(text("<"), "");
        assert_eq!(text(&"é".repeat(20_000)).len(), MAX_TEXT_BYTES);
    }
}
