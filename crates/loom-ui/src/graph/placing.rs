//! Where everything in a graph is: the boxes of nodes and lanes, and the courses of edges.
//!
//! Containers are measured from the inside to the outside and placed from the outside to the inside, in two loops over the
//! nodes, which are in the order of nesting.

use super::{
    Graph, Lane, Node,
    layers::{Edge, Layers, Route, lay_out},
    text,
};

pub(super) const CARD_HEIGHT: f64 = 54.0;
/// The height of a container's head.
pub(super) const HEAD_HEIGHT: f64 = 46.0;
/// The height of a lane's label.
pub(super) const LABEL_ROW: f64 = 26.0;
/// The space that a card needs beside its name: the icon on the left, the mark on the right.
pub(super) const CARD_SIDES: f64 = 88.0;
pub(super) const NAME_SIZE: f64 = 13.0;
pub(super) const CAPTION_SIZE: f64 = 11.5;
/// Semibold letters are a little wider.
pub(super) const BOLD: f64 = 1.06;

const CARD_WIDTH: std::ops::RangeInclusive<f64> = 196.0..=310.0;
const PADDING: f64 = 18.0;
const LANE_GAP: f64 = 16.0;
/// The least size of a lane, which an empty one has.
const LANE_LEAST: (f64, f64) = (136.0, 40.0);
/// Lanes beyond this width continue in another row.
const ROW_WIDTH: f64 = 1600.0;
/// The width of a label's ends.
const LABEL_ENDS: f64 = 18.0;

/// A rectangle, by its top left corner and its size.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Area {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A lane and the edges in it.
#[derive(Clone, Debug, Default)]
pub(super) struct PlacedLane {
    pub(super) area: Area,
    pub(super) routes: Vec<Route>,
}

/// A graph whose parts have places. It does not depend on a run, so it can be used for all runs of a definition.
#[derive(Clone, Debug)]
pub struct Drawing {
    pub(super) graph: Graph,
    /// The area of each node.
    pub(super) areas: Vec<Area>,
    /// The lanes of each node.
    pub(super) lanes: Vec<Vec<PlacedLane>>,
    pub(super) root: PlacedLane,
}

impl Drawing {
    /// Lays out a graph.
    pub fn of(graph: Graph) -> Drawing {
        let count = graph.nodes.len();
        let mut areas = vec![Area::default(); count];
        let mut inner: Vec<Vec<(Area, Layers)>> = vec![Vec::new(); count];
        for at in (0..count).rev() {
            let node = &graph.nodes[at];
            if node.is_container() {
                let (area, lanes) = measured(node, &areas);
                areas[at] = area;
                inner[at] = lanes;
            } else {
                areas[at] = card(node);
            }
        }
        let layers = laid_out(&graph.root, &areas);
        let area = Area { width: layers.width, height: layers.height, ..Area::default() };
        let root = placed(&graph.root, area, &layers, 0.0, &mut areas);
        let mut lanes = Vec::with_capacity(count);
        for (at, inside) in inner.into_iter().enumerate() {
            let outer = areas[at];
            let mut of_node = Vec::with_capacity(inside.len());
            for (lane, (area, layers)) in graph.nodes[at].lanes.iter().zip(inside) {
                let area = Area { x: outer.x + area.x, y: outer.y + area.y, ..area };
                let label = if lane.label.is_some() { LABEL_ROW } else { 0.0 };
                of_node.push(placed(lane, area, &layers, label, &mut areas));
            }
            lanes.push(of_node);
        }
        Drawing { graph, areas, lanes, root }
    }

    /// The graph that is drawn.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }
}

/// The size of a node that contains none.
fn card(node: &Node) -> Area {
    let name = text::width(&text::clean(&node.name), NAME_SIZE) * BOLD;
    let caption = text::width(&node.caption, CAPTION_SIZE);
    let wanted = (name.max(caption) + CARD_SIDES).ceil();
    Area {
        width: wanted.clamp(*CARD_WIDTH.start(), *CARD_WIDTH.end()),
        height: CARD_HEIGHT,
        ..Area::default()
    }
}

/// The size of a container, and its lanes relative to its corner.
fn measured(node: &Node, areas: &[Area]) -> (Area, Vec<(Area, Layers)>) {
    let mut lanes: Vec<(Area, Layers)> = Vec::with_capacity(node.lanes.len());
    let (mut left, mut top, mut row_height, mut width) = (PADDING, HEAD_HEIGHT, 0.0_f64, 0.0_f64);
    let mut row_start = 0;
    for lane in &node.lanes {
        let layers = laid_out(lane, areas);
        let (label_width, label_height) = match &lane.label {
            Some(label) => (text::width(label, CAPTION_SIZE).min(*CARD_WIDTH.end()), LABEL_ROW),
            None => (0.0, 0.0),
        };
        // Lanes that are seen have padding of their own.
        let ends = if lane.label.is_some() { PADDING * 2.0 } else { 0.0 };
        let area = Area {
            x: left,
            y: top,
            width: layers.width.max(label_width).max(LANE_LEAST.0) + ends,
            height: layers.height.max(LANE_LEAST.1) + label_height + ends / 2.0,
        };
        let (area, is_new) = if left > PADDING && left + area.width > ROW_WIDTH {
            (Area { x: PADDING, y: top + row_height + LANE_GAP, ..area }, true)
        } else {
            (area, false)
        };
        if is_new {
            stretch(&mut lanes[row_start..], row_height);
            row_start = lanes.len();
            top = area.y;
            row_height = 0.0;
        }
        row_height = row_height.max(area.height);
        left = area.x + area.width + LANE_GAP;
        width = width.max(area.x + area.width);
        lanes.push((area, layers));
    }
    stretch(&mut lanes[row_start..], row_height);
    let head = text::width(&text::clean(&node.name), NAME_SIZE).mul_add(BOLD, CARD_SIDES);
    let head = head.min(*CARD_WIDTH.end() + 40.0);
    let least = head.max(text::width(&node.caption, CAPTION_SIZE) + CARD_SIDES);
    let whole = (width + PADDING).max(least).ceil();
    // A head that is wider than the lanes leaves the same space on both sides.
    let shift = (whole - width - PADDING) / 2.0;
    for (area, _) in &mut lanes {
        area.x += shift;
    }
    (Area { width: whole, height: top + row_height + PADDING, ..Area::default() }, lanes)
}

/// Gives the lanes of a row the same height.
fn stretch(lanes: &mut [(Area, Layers)], height: f64) {
    for (area, _) in lanes {
        area.height = height;
    }
}

fn laid_out(lane: &Lane, areas: &[Area]) -> Layers {
    let sizes: Vec<(f64, f64)> =
        lane.nodes.iter().map(|node| (areas[*node].width, areas[*node].height)).collect();
    let label = |when: &String| text::width(when, CAPTION_SIZE) + LABEL_ENDS;
    let edges: Vec<Edge> = lane
        .links
        .iter()
        .map(|link| Edge { from: link.from, to: link.to, label: link.when.as_ref().map(label) })
        .collect();
    lay_out(&sizes, &edges)
}

/// Moves the contents of a lane to their places: below its label, in the middle.
fn placed(lane: &Lane, area: Area, layers: &Layers, label: f64, areas: &mut [Area]) -> PlacedLane {
    let (dx, dy) = (area.x + (area.width - layers.width) / 2.0, area.y + label);
    for (node, (x, y)) in lane.nodes.iter().zip(&layers.corners) {
        areas[*node].x = x + dx;
        areas[*node].y = y + dy;
    }
    let moved = |route: &Route| Route {
        legs: route.legs.iter().map(|(x, top, bottom)| (x + dx, top + dy, bottom + dy)).collect(),
        label: route.label.map(|(x, y)| (x + dx, y + dy)),
    };
    PlacedLane { area, routes: layers.routes.iter().map(moved).collect() }
}
