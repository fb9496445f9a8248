//! Draws a graph as SVG, in a page or as a file of its own.
//!
//! Colours are variables of the stylesheet. Each node is a group with an id, a state in `data-state` and a description, so
//! that a page can replace it and a screen reader can read it.

use std::{collections::BTreeSet, fmt::Write};

use maud::{Markup, PreEscaped, Render, html};

use super::{
    Drawing, Graph, Node,
    icons::Icon,
    layers::{LABEL_HEIGHT, Route},
    placing::{Area, BOLD, CAPTION_SIZE, CARD_SIDES, HEAD_HEIGHT, LABEL_ROW, NAME_SIZE, PlacedLane},
    text::{clean, fit, width},
};
use crate::states::{NodeState, State, States};

/// The variables and rules of drawings, which are part of the stylesheet of pages.
pub(crate) const STYLE: &str = include_str!("../../assets/graph.css");

/// The space around a drawing.
const MARGIN: f64 = 24.0;
/// The height of the heading of a file.
const HEADING: f64 = 40.0;
/// The length of an arrow's tip.
const TIP: f64 = 7.0;

/// Where the nodes of a drawing lead.
#[derive(Clone, Copy, Debug, Default)]
pub enum Links<'a> {
    /// Nowhere.
    #[default]
    None,
    /// To this address with the action's name, percent-encoded, and the fragment appended: `?action=` and `#details`.
    To {
        /// The address before the name.
        before: &'a str,
        /// The address after the name.
        after: &'a str,
        /// The name of the action that is selected.
        selected: Option<&'a str>,
    },
}

/// A number of at most one decimal.
#[derive(Clone, Copy)]
struct N(f64);

impl Render for N {
    fn render_to(&self, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = write!(out, "{}", (self.0 * 10.0).round() / 10.0);
    }
}

/// The drawing as a file: with a heading, its own styles, and colours for light and dark.
pub fn standalone_svg(graph: &Graph, states: &States) -> String {
    let drawing = Drawing::of(graph.clone());
    let root = drawing.root.area;
    let title_width = width(&graph.title, 17.0) * BOLD;
    let size = (root.width.max(title_width.min(600.0)) + 2.0 * MARGIN, root.height + HEADING + 2.0 * MARGIN);
    let offset = (size.0 - root.width) / 2.0;
    let shift = format!("translate({} {})", N(offset).render().0, N(MARGIN + HEADING).render().0);
    let document = html! {
        svg xmlns="http://www.w3.org/2000/svg" class="graph" role="img" aria-labelledby="graph-title"
            width=(N(size.0)) height=(N(size.1)) viewBox={ "0 0 " (N(size.0)) " " (N(size.1)) } {
            title id="graph-title" { "Workflow " (graph.title) }
            style { (PreEscaped(with_fallbacks(STYLE))) }
            (symbols(graph))
            rect class="paper" width="100%" height="100%" {}
            text class="heading" x=(N(MARGIN)) y=(N(MARGIN + 16.0)) {
                (fit(&graph.title, size.0 - 2.0 * MARGIN, 17.0 * BOLD))
            }
            g transform=(shift) { (contents(&drawing, states, Links::None)) }
        }
    };
    document.into_string()
}

/// The drawing as a part of a page, whose stylesheet has the rules of drawings.
pub fn embedded_svg(drawing: &Drawing, states: &States, links: Links<'_>) -> Markup {
    let root = drawing.root.area;
    let (width, height) = (root.width + 2.0 * MARGIN, root.height + 2.0 * MARGIN);
    html! {
        svg class="graph" role="group" aria-label={ "Graph of " (drawing.graph.title) }
            width=(N(width)) height=(N(height))
            viewBox={ (N(-MARGIN)) " " (N(-MARGIN)) " " (N(width)) " " (N(height)) } {
            (symbols(&drawing.graph))
            (contents(drawing, states, links))
        }
    }
}

/// A stylesheet for programs that do not know variables: each rule with a variable follows one with its value in light colours.
fn with_fallbacks(style: &str) -> String {
    let value = |name: &str| {
        let rest = style.split_once(&format!("{name}:"))?.1;
        rest.split_once(';').map(|(value, _)| value.trim())
    };
    let mut out = String::with_capacity(style.len() * 2);
    for line in style.lines() {
        // The stylesheet has one declaration or one rule in a line.
        for part in line.split_inclusive(['{', ';', '}']) {
            if let Some((before, rest)) = part.split_once("var(")
                && let Some((name, after)) = rest.split_once(')')
                && let Some(value) = value(name)
            {
                let end = if after.starts_with(';') { "" } else { ";" };
                let _ = write!(out, "{before}{value}{}{end}", after.trim_end_matches('}'));
            }
            out.push_str(part);
        }
        out.push('\n');
    }
    out
}

/// The icons that the graph uses.
fn symbols(graph: &Graph) -> Markup {
    let used: BTreeSet<Icon> = graph.nodes.iter().map(|node| node.icon).collect();
    html! {
        defs {
            @for icon in used {
                symbol id=(icon.id()) viewBox="0 0 20 20" { path d=(icon.path()) {} }
            }
        }
    }
}

fn contents(drawing: &Drawing, states: &States, links: Links<'_>) -> Markup {
    html! {
        (edges(drawing, &drawing.root, &drawing.graph.root, states, "e"))
        @for at in 0..drawing.graph.nodes.len() { (node(drawing, at, states, links)) }
    }
}

/// A node and, in a container, the edges between the nodes in it.
fn node(drawing: &Drawing, at: usize, states: &States, links: Links<'_>) -> Markup {
    let node = &drawing.graph.nodes[at];
    let state = if node.is_trigger { None } else { states.get(&node.name) };
    let drawn = html! {
        (group(node, drawing.areas[at], &drawing.lanes[at], state, links))
        @for (number, (lane, placed)) in node.lanes.iter().zip(&drawing.lanes[at]).enumerate() {
            (edges(drawing, placed, lane, states, &format!("e-{}-{number}", node.id)))
        }
    };
    drawn
}

fn group(
    node: &Node,
    area: Area,
    lanes: &[PlacedLane],
    state: Option<&NodeState>,
    links: Links<'_>,
) -> Markup {
    let name = clean(&node.name);
    let mut description = format!("{name}, {}", node.caption);
    if let Some(state) = state {
        let note = state.note();
        let error = state.error.as_deref().map(clean).unwrap_or_default();
        for part in [state.state.as_str(), &note, &error].into_iter().filter(|part| !part.is_empty()) {
            description.push_str(", ");
            description.push_str(part);
        }
    }
    let is_selected = matches!(links, Links::To { selected: Some(selected), .. } if selected == node.name);
    let class = match (node.is_container(), node.is_trigger) {
        (true, _) => "node box",
        (false, true) => "node card start",
        (false, false) => "node card",
    };
    let transform = format!("translate({} {})", N(area.x).render().0, N(area.y).render().0);
    let body = html! {
        title { (description) }
        @if node.is_container() { (container(area, lanes, node)) } @else { (card(area)) }
        (label(node, &name, area, state))
        @if let Some(state) = state { (mark(state.state, area.width - 22.0)) }
    };
    html! {
        g id=(node.id) class=(class) transform=(transform) data-state=[state.map(|state| state.state.as_str())]
            data-selected[is_selected] {
            @if let (Links::To { before, after, .. }, false) = (links, node.is_trigger) {
                a href={ (before) (percent_encoded(&node.name)) (after) } aria-label=(description)
                    aria-current=[is_selected.then_some("true")] { (body) }
            } @else {
                (body)
            }
        }
    }
}

fn card(area: Area) -> Markup {
    html! {
        rect class="face" width=(N(area.width)) height=(N(area.height)) rx="9" {}
        rect class="side" x="-1" y="11" width="4" height=(N(area.height - 22.0)) rx="2" {}
    }
}

fn container(area: Area, lanes: &[PlacedLane], node: &Node) -> Markup {
    html! {
        rect class="face" width=(N(area.width)) height=(N(area.height)) rx="12" {}
        @for (lane, placed) in node.lanes.iter().zip(lanes) {
            @let (x, y) = (placed.area.x - area.x, placed.area.y - area.y);
            @let (width, height) = (placed.area.width, placed.area.height);
            @if let Some(label) = &lane.label {
                rect class="lane" x=(N(x)) y=(N(y)) width=(N(width)) height=(N(height)) rx="8" {}
                text class="caption lane-label" x=(N(x + width / 2.0)) y=(N(y + 17.0)) text-anchor="middle" {
                    (fit(label, width - 12.0, CAPTION_SIZE * BOLD))
                }
            }
            @if lane.nodes.is_empty() {
                @let top = if lane.label.is_some() { y + LABEL_ROW } else { y };
                text class="caption" x=(N(x + width / 2.0)) y=(N(top + 22.0)) text-anchor="middle" { "No actions" }
            }
        }
    }
}

/// The icon, the name, and below it the type and what happened.
fn label(node: &Node, name: &str, area: Area, state: Option<&NodeState>) -> Markup {
    let top = if node.is_container() { (HEAD_HEIGHT - 26.0) / 2.0 + 1.0 } else { (area.height - 26.0) / 2.0 };
    let room = area.width - CARD_SIDES;
    let note = state.map(NodeState::note).unwrap_or_default();
    // The line below continues under the mark.
    let below = room + 30.0;
    let beside = below - if note.is_empty() { 0.0 } else { width(&note, CAPTION_SIZE) + 8.0 };
    // A type that has no room beside what happened is in the description.
    let caption = if beside < 30.0 { "".into() } else { fit(&node.caption, beside, CAPTION_SIZE) };
    let gap = if caption.is_empty() { "0" } else { "8" };
    html! {
        rect class="tile" x="14" y=(N(top)) width="26" height="26" rx="7" {}
        use href={ "#" (node.icon.id()) } class="icon" x="18" y=(N(top + 4.0)) width="18" height="18" {}
        // A viewport of its own clips what a wider font would draw beyond the card.
        svg x="50" y=(N(top - 7.0)) width=(N(below)) height="40" {
            text class="name" y="16.5" { (fit(name, room, NAME_SIZE * BOLD)) }
            text class="caption" y="33" {
                (caption)
                @if !note.is_empty() { tspan class="note" dx=(gap) { (fit(&note, below, CAPTION_SIZE)) } }
            }
        }
    }
}

/// The sign of a state, which can be told apart without colours.
fn mark(state: State, x: f64) -> Markup {
    let sign = match state {
        State::Succeeded => "M-3.6 .4-1 3 3.8-2.6",
        State::Failed => "M-2.8-2.8 2.8 2.8M2.8-2.8-2.8 2.8",
        State::TimedOut => "M0-3.8V0L2.6 2",
        State::Skipped => "M-3.4-3 0 0-3.4 3M.6-3 4 0 .6 3",
        State::Cancelled => "M-3.4 0H3.4",
        State::Aborted => "M0-4V1M0 3.6V3.7",
        State::Running => "M0-4.2A4.2 4.2 0 0 1 4.2 0",
        State::Retrying => "M3.6-2.4A4.2 4.2 0 1 0 4.2 .6M3.9-4.6V-2H1.4",
        State::Waiting => "",
    };
    html! {
        g class="mark" transform={ "translate(" (N(x)) " 18)" } {
            circle r="8" {}
            @if !sign.is_empty() { path d=(sign) {} }
        }
    }
}

/// The edges of a lane, with their labels. Those that a run did not take are pale.
fn edges(drawing: &Drawing, placed: &PlacedLane, lane: &super::Lane, states: &States, id: &str) -> Markup {
    let taken = |position: usize| {
        let node = &drawing.graph.nodes[lane.nodes[position]];
        node.is_trigger || states.get(&node.name).is_some_and(|state| state.state.is_taken())
    };
    let drawn = lane.links.iter().zip(&placed.routes).filter(|(_, route)| route.legs.len() > 1);
    html! {
        g id=(id) class="edges" {
            @for (link, route) in drawn {
                @let is_taken = states.is_empty() || (taken(link.from) && taken(link.to));
                path class=(if is_taken { "edge" } else { "edge pale" }) d=(course(route)) {}
                path class=(if is_taken { "tip" } else { "tip pale" }) d=(tip(route)) {}
                @if let (Some(when), Some((x, y))) = (&link.when, route.label) {
                    @let wide = width(when, CAPTION_SIZE) + 14.0;
                    rect class="when" x=(N(x - wide / 2.0)) y=(N(y - LABEL_HEIGHT / 2.0)) width=(N(wide))
                        height=(N(LABEL_HEIGHT)) rx=(N(LABEL_HEIGHT / 2.0)) {}
                    text class="caption when-label" x=(N(x)) y=(N(y + 4.0)) text-anchor="middle" { (when) }
                }
            }
        }
    }
}

fn course(route: &Route) -> String {
    let mut out = String::new();
    let mut from: Option<(f64, f64)> = None;
    let last = route.legs.len() - 1;
    for (at, (x, top, bottom)) in route.legs.iter().enumerate() {
        let top = if at == last { top - TIP + 1.0 } else { *top };
        // Writing to a String cannot fail.
        let _ = match from {
            None => write!(out, "M{} {}", N(*x).render().0, N(top).render().0),
            Some((before, _)) if (before - x).abs() < 0.5 => write!(out, "V{}", N(top).render().0),
            Some((before, start)) => {
                let middle = N(f64::midpoint(start, top)).render().0;
                let (before, x, top) = (N(before).render().0, N(*x).render().0, N(top).render().0);
                write!(out, "C{before} {middle} {x} {middle} {x} {top}")
            }
        };
        if at != last && bottom - top > 0.5 {
            let _ = write!(out, "V{}", N(*bottom).render().0);
        }
        from = Some((*x, *bottom));
    }
    out
}

fn tip(route: &Route) -> String {
    let Some((x, y, _)) = route.legs.last() else { return String::new() };
    let at = |dx: f64, dy: f64| format!("{} {}", N(x + dx).render().0, N(y + dy).render().0);
    format!("M{} {} {}Z", at(-3.6, -TIP), at(0.0, -0.5), at(3.6, -TIP))
}

/// Percent-encodes a segment of a path or a value of a query.
pub fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            // Writing to a String cannot fail.
            other => drop(write!(out, "%{other:02X}")),
        }
    }
    out
}
