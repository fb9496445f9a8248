//! The layered layout of one block: every action is below those it runs after, with few crossings and straight edges.
//!
//! Works on sizes and indices alone. `runAfter` only names siblings, so each block is laid out alone, and a container
//! is a node of the block around it.

use std::collections::{BTreeMap, BTreeSet};

/// The space between neighbours in a rank.
const GAP_X: f64 = 28.0;
/// The space between an edge that passes and its neighbours.
const GAP_PASSING: f64 = 16.0;
/// The least space between two ranks.
const GAP_Y: f64 = 36.0;
/// The height of a label on an edge.
pub(super) const LABEL_HEIGHT: f64 = 18.0;
/// The space between a label and what is above and below it.
const GAP_LABEL: f64 = 16.0;
/// The most bends of all edges of a block; edges beyond are drawn straight.
const BENDS_MAX: usize = 20_000;
/// How often the order of the ranks is improved from the top and from the bottom.
const SWEEPS: usize = 6;
/// How often the positions are improved.
const SETTLING: usize = 16;
/// In how many of the last of these both sides count.
const STRAIGHTENING: usize = 6;

/// An edge from a node to a later one, with the width of its label if it has one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) label: Option<f64>,
}

/// The layout of a block.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers {
    /// The top left corner of each node.
    pub(super) corners: Vec<(f64, f64)>,
    /// The course of each edge.
    pub(super) routes: Vec<Route>,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// The course of an edge: straight down each leg, and in a curve from leg to leg.
#[derive(Clone, Debug, Default)]
pub(super) struct Route {
    /// `(x, top, bottom)`.
    pub(super) legs: Vec<(f64, f64, f64)>,
    /// The middle of the label.
    pub(super) label: Option<(f64, f64)>,
}

/// A node, or the place at which an edge passes through a rank.
#[derive(Clone, Debug)]
struct Vertex {
    rank: usize,
    width: f64,
    height: f64,
    /// Whether it is a node.
    real: bool,
    up: Vec<usize>,
    down: Vec<usize>,
    x: f64,
    /// The one below that leads furthest down, if others do not.
    main: Option<usize>,
}

/// Lays out nodes of these sizes. Edges that would close a cycle are ignored.
pub(super) fn lay_out(sizes: &[(f64, f64)], edges: &[Edge]) -> Layers {
    if sizes.is_empty() {
        return Layers::default();
    }
    let mut plan = Plan::new(sizes, edges);
    plan.order();
    plan.find_mains();
    plan.settle();
    plan.finish(sizes.len())
}

struct Plan {
    vertices: Vec<Vertex>,
    ranks: Vec<Vec<usize>>,
    /// For each edge its vertices from node to node.
    chains: Vec<Vec<usize>>,
    /// For each edge the vertex that is its label.
    labels: Vec<Option<usize>>,
}

impl Plan {
    fn new(sizes: &[(f64, f64)], edges: &[Edge]) -> Plan {
        let depth = depths(sizes.len(), edges);
        // A label has a rank of its own, above the rank of the action that the edge leads to.
        let row = |node: usize| depth[node] * 2;
        let labelled = edges.iter().filter(|edge| edge.label.is_some() && depth[edge.from] < depth[edge.to]);
        let mut rows: BTreeSet<usize> = labelled.map(|edge| row(edge.to) - 1).collect();
        rows.extend((0..sizes.len()).map(row));
        let ranks: BTreeMap<usize, usize> = rows.iter().enumerate().map(|(rank, row)| (*row, rank)).collect();

        let vertices = sizes.iter().enumerate().map(|(node, (width, height))| Vertex {
            rank: ranks[&row(node)],
            width: *width,
            height: *height,
            real: true,
            up: Vec::new(),
            down: Vec::new(),
            x: 0.0,
            main: None,
        });
        let mut plan = Plan {
            vertices: vertices.collect(),
            ranks: vec![Vec::new(); ranks.len()],
            chains: Vec::new(),
            labels: Vec::new(),
        };
        let mut bends = 0;
        for edge in edges {
            let (first, last) = (plan.vertices[edge.from].rank, plan.vertices[edge.to].rank);
            let mut chain = vec![edge.from];
            let mut label = None;
            if first < last {
                bends += last - first - 1;
                // Without bends an edge still needs the vertex of its label.
                let passes = if bends > BENDS_MAX { last - 1..last } else { first + 1..last };
                for rank in passes.filter(|rank| *rank > first) {
                    let width = edge.label.filter(|_| rank + 1 == last);
                    if bends > BENDS_MAX && width.is_none() {
                        continue;
                    }
                    let vertex = plan.vertices.len();
                    plan.vertices.push(Vertex {
                        rank,
                        width: width.unwrap_or(2.0),
                        height: if width.is_some() { LABEL_HEIGHT } else { 0.0 },
                        real: false,
                        up: Vec::new(),
                        down: Vec::new(),
                        x: 0.0,
                        main: None,
                    });
                    label = width.map(|_| vertex).or(label);
                    chain.push(vertex);
                }
                chain.push(edge.to);
                for pair in chain.windows(2) {
                    if plan.vertices[pair[0]].rank + 1 == plan.vertices[pair[1]].rank {
                        plan.vertices[pair[0]].down.push(pair[1]);
                        plan.vertices[pair[1]].up.push(pair[0]);
                    }
                }
            }
            plan.chains.push(chain);
            plan.labels.push(label);
        }
        plan.place_in_file_order(sizes.len());
        plan
    }

    /// Fills the ranks: a walk from the top that meets successors in the order of the file.
    fn place_in_file_order(&mut self, nodes: usize) {
        let mut seen = vec![false; self.vertices.len()];
        for root in 0..nodes {
            let mut stack = if self.vertices[root].up.is_empty() { vec![root] } else { Vec::new() };
            while let Some(vertex) = stack.pop() {
                if std::mem::replace(&mut seen[vertex], true) {
                    continue;
                }
                self.ranks[self.vertices[vertex].rank].push(vertex);
                stack.extend(self.vertices[vertex].down.iter().rev());
            }
        }
        // A vertex of an edge without bends may have no predecessor.
        for (vertex, own) in self.vertices.iter().enumerate().filter(|(vertex, _)| !seen[*vertex]) {
            self.ranks[own.rank].push(vertex);
        }
    }

    /// Reduces crossings: sorts each rank by the mean position of its neighbours, in turns from above and from below.
    fn order(&mut self) {
        let mut best = (self.crossings(), self.ranks.clone());
        for sweep in 0..SWEEPS {
            if best.0 == 0 {
                break;
            }
            let count = self.ranks.len();
            let from_top = sweep % 2 == 0;
            for step in 1..count {
                let rank = if from_top { step } else { count - 1 - step };
                let beside = if from_top { rank - 1 } else { rank + 1 };
                let place = self.places(beside);
                let mut keyed: Vec<(f64, usize)> = Vec::with_capacity(self.ranks[rank].len());
                for (at, vertex) in self.ranks[rank].iter().enumerate() {
                    let near = self.neighbours(*vertex, from_top);
                    let sum: usize = near.iter().filter_map(|near| place.get(near)).sum();
                    let mean = if near.is_empty() { at as f64 } else { sum as f64 / near.len() as f64 };
                    keyed.push((mean, *vertex));
                }
                keyed.sort_by(|left, right| left.0.total_cmp(&right.0));
                self.ranks[rank] = keyed.into_iter().map(|(_, vertex)| vertex).collect();
            }
            let crossings = self.crossings();
            if crossings < best.0 {
                best = (crossings, self.ranks.clone());
            }
        }
        self.ranks = best.1;
    }

    fn neighbours(&self, vertex: usize, above: bool) -> &[usize] {
        if above { &self.vertices[vertex].up } else { &self.vertices[vertex].down }
    }

    fn places(&self, rank: usize) -> BTreeMap<usize, usize> {
        self.ranks[rank].iter().enumerate().map(|(place, vertex)| (*vertex, place)).collect()
    }

    fn crossings(&self) -> usize {
        let mut total = 0_usize;
        for rank in 1..self.ranks.len() {
            let place = self.places(rank);
            let mut ends = Vec::new();
            for vertex in &self.ranks[rank - 1] {
                let mut below: Vec<usize> =
                    self.vertices[*vertex].down.iter().filter_map(|down| place.get(down).copied()).collect();
                below.sort_unstable();
                ends.extend(below);
            }
            total = total.saturating_add(inversions(&ends, place.len()));
        }
        total
    }

    /// Finds the main line through each vertex, which is drawn straight; shorter branches are drawn beside it.
    fn find_mains(&mut self) {
        let mut height = vec![0_usize; self.vertices.len()];
        for vertex in self.ranks.iter().rev().flatten().copied() {
            let below = &self.vertices[vertex].down;
            let Some(most) = below.iter().map(|down| height[*down]).max() else { continue };
            height[vertex] = most + 1;
            let mut furthest = below.iter().copied().filter(|down| height[*down] == most);
            let first = furthest.next();
            self.vertices[vertex].main = first.filter(|_| furthest.next().is_none());
        }
    }

    /// Finds the positions across: each vertex as near to the middle of its neighbours as the order and the gaps allow.
    fn settle(&mut self) {
        for rank in 0..self.ranks.len() {
            let mut right = 0.0;
            for at in 0..self.ranks[rank].len() {
                let vertex = self.ranks[rank][at];
                if at > 0 {
                    right += self.distance(self.ranks[rank][at - 1], vertex);
                }
                self.vertices[vertex].x = right;
            }
        }
        let count = self.ranks.len();
        for round in 0..SETTLING {
            let is_last = round + STRAIGHTENING >= SETTLING;
            // The last round that looks at one side only is from the top, so that ends follow what they belong to. In the last
            // rounds both sides count, so that edges come out straight.
            let from_top = round % 2 == 1;
            for step in 0..count {
                let rank = if from_top { step } else { count - 1 - step };
                self.settle_rank(rank, from_top || is_last, !from_top || is_last);
            }
        }
        self.straighten();
        let left = self.vertices.iter().map(|vertex| vertex.x - vertex.width / 2.0).fold(f64::MAX, f64::min);
        for vertex in &mut self.vertices {
            vertex.x -= left;
        }
    }

    fn settle_rank(&mut self, rank: usize, above: bool, below: bool) {
        self.place(rank, |plan, vertex| plan.wanted(vertex, above, below));
    }

    /// Makes main lines exactly straight, from the top; what is beside them gives way.
    fn straighten(&mut self) {
        for rank in 1..self.ranks.len() {
            self.place(rank, |plan, vertex| {
                let own = &plan.vertices[vertex];
                match own.up[..] {
                    [only] if plan.vertices[only].main == Some(vertex) => (plan.vertices[only].x, 1_000.0),
                    [] | [_] => (own.x, 1.0),
                    [..] => plan.wanted(vertex, true, false),
                }
            });
        }
    }

    /// Finds the positions in a rank that minimize the weighted squares of the distances from the wanted ones: isotonic
    /// regression by pooling adjacent violators.
    fn place(&mut self, rank: usize, wanted: impl Fn(&Plan, usize) -> (f64, f64)) {
        let row = &self.ranks[rank];
        let mut offset = 0.0;
        let mut offsets = Vec::with_capacity(row.len());
        // `(sum of weight * wanted, sum of weights, members)`
        let mut pools: Vec<(f64, f64, usize)> = Vec::with_capacity(row.len());
        for (at, vertex) in row.iter().enumerate() {
            if at > 0 {
                offset += self.distance(row[at - 1], *vertex);
            }
            offsets.push(offset);
            let (wanted, weight) = wanted(self, *vertex);
            pools.push(((wanted - offset) * weight, weight, 1));
            while let [.., left, right] = pools[..] {
                if left.0 / left.1 <= right.0 / right.1 {
                    break;
                }
                pools.truncate(pools.len() - 2);
                pools.push((left.0 + right.0, left.1 + right.1, left.2 + right.2));
            }
        }
        let mut at = 0;
        for (sum, weight, members) in pools {
            for _ in 0..members {
                self.vertices[self.ranks[rank][at]].x = sum / weight + offsets[at];
                at += 1;
            }
        }
    }

    /// Where a vertex wants to be, and how much.
    fn wanted(&self, vertex: usize, above: bool, below: bool) -> (f64, f64) {
        let own = &self.vertices[vertex];
        let sides = [(above, &own.up, false), (below, &own.down, true)];
        let (mut sum, mut weights) = (0.0, 0.0);
        for (_, near, is_below) in sides.into_iter().filter(|(counts, ..)| *counts) {
            for at in near {
                let near = &self.vertices[*at];
                let is_main = if is_below { own.main == Some(*at) } else { near.main == Some(vertex) };
                // Long edges should be straight above all, and bend where they begin.
                let weight = match (own.real, near.real) {
                    _ if is_main => 30.0,
                    (false, false) => 8.0,
                    (false, true) if is_below => 6.0,
                    (true, false) if !is_below => 3.0,
                    (false, true) => 0.1,
                    _ => 1.0,
                };
                sum += near.x * weight;
                weights += weight;
            }
        }
        if weights == 0.0 { (own.x, 0.01) } else { (sum / weights, weights) }
    }

    /// The least distance between the middles of two neighbours.
    fn distance(&self, left: usize, right: usize) -> f64 {
        let (left, right) = (&self.vertices[left], &self.vertices[right]);
        let gap = if left.real && right.real { GAP_X } else { GAP_PASSING };
        f64::midpoint(left.width, right.width) + gap
    }

    fn finish(self, nodes: usize) -> Layers {
        let mut tops = Vec::with_capacity(self.ranks.len());
        let mut bottoms: Vec<f64> = Vec::with_capacity(self.ranks.len());
        for (rank, row) in self.ranks.iter().enumerate() {
            let is_label = |rank: usize| self.ranks[rank].iter().all(|vertex| !self.vertices[*vertex].real);
            let gap = match rank.checked_sub(1) {
                None => 0.0,
                Some(above) if is_label(above) || is_label(rank) => GAP_LABEL + self.extra(above),
                Some(above) => GAP_Y + self.extra(above),
            };
            let top = bottoms.last().copied().unwrap_or_default() + gap;
            tops.push(top);
            bottoms.push(top + row.iter().map(|vertex| self.vertices[*vertex].height).fold(0.0, f64::max));
        }
        let corner = |vertex: &Vertex| (vertex.x - vertex.width / 2.0, tops[vertex.rank]);
        let routes = self.chains.iter().zip(&self.labels).map(|(chain, label)| {
            let last = chain.len() - 1;
            let legs = chain.iter().enumerate().map(|(at, vertex)| {
                let vertex = &self.vertices[*vertex];
                let (top, bottom) = (tops[vertex.rank], bottoms[vertex.rank]);
                match at {
                    0 => (vertex.x, top + vertex.height, bottom),
                    _ if at == last => (vertex.x, top, top),
                    _ => (vertex.x, top, bottom),
                }
            });
            let middle = |vertex: &Vertex| f64::midpoint(tops[vertex.rank], bottoms[vertex.rank]);
            let label = label.map(|vertex| (self.vertices[vertex].x, middle(&self.vertices[vertex])));
            Route { legs: if last == 0 { Vec::new() } else { legs.collect() }, label }
        });
        Layers {
            routes: routes.collect(),
            corners: self.vertices[..nodes].iter().map(corner).collect(),
            width: self.vertices.iter().map(|vertex| vertex.x + vertex.width / 2.0).fold(0.0, f64::max),
            height: bottoms.last().copied().unwrap_or_default(),
        }
    }

    /// Additional space below a rank whose edges go far across, so that they are not flat.
    fn extra(&self, rank: usize) -> f64 {
        let spans = self.ranks[rank].iter().flat_map(|vertex| {
            let own = &self.vertices[*vertex];
            own.down.iter().map(|below| (self.vertices[*below].x - own.x).abs())
        });
        (spans.fold(0.0, f64::max) / 16.0).min(40.0)
    }
}

/// The number of edges on the longest path to each node.
fn depths(nodes: usize, edges: &[Edge]) -> Vec<usize> {
    let mut waits = vec![0_usize; nodes];
    let mut below: Vec<Vec<usize>> = vec![Vec::new(); nodes];
    for edge in edges {
        waits[edge.to] += 1;
        below[edge.from].push(edge.to);
    }
    let mut depth = vec![0; nodes];
    let mut ready: Vec<usize> = (0..nodes).filter(|node| waits[*node] == 0).collect();
    while let Some(node) = ready.pop() {
        for next in &below[node] {
            depth[*next] = depth[*next].max(depth[node] + 1);
            waits[*next] -= 1;
            if waits[*next] == 0 {
                ready.push(*next);
            }
        }
    }
    depth
}

/// The number of pairs in the wrong order, by a Fenwick tree.
fn inversions(places: &[usize], count: usize) -> usize {
    let mut tree = vec![0_usize; count + 1];
    let mut total = 0_usize;
    for (seen, place) in places.iter().enumerate() {
        let mut at = place + 1;
        let mut not_after = 0;
        while at > 0 {
            not_after += tree[at];
            at &= at - 1;
        }
        total = total.saturating_add(seen - not_after);
        let mut at = place + 1;
        while at <= count {
            tree[at] += 1;
            at += at & at.wrapping_neg();
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: (f64, f64) = (100.0, 40.0);

    fn edge(from: usize, to: usize) -> Edge {
        Edge { from, to, label: None }
    }

    #[test]
    fn a_chain_is_a_straight_line() {
        let laid = lay_out(&[SIZE, (300.0, 200.0), SIZE], &[edge(0, 1), edge(1, 2)]);
        let middles: Vec<f64> =
            laid.corners.iter().zip([100.0, 300.0, 100.0]).map(|((x, _), width)| x + width / 2.0).collect();
        assert_eq!(middles, [150.0; 3]);
        assert!(laid.corners[1].1 >= 40.0 + GAP_Y && laid.corners[2].1 >= laid.corners[1].1 + 200.0 + GAP_Y);
    }

    #[test]
    fn a_parent_is_in_the_middle_of_its_branches() {
        let laid = lay_out(&[SIZE; 4], &[edge(0, 1), edge(0, 2), edge(1, 3), edge(2, 3)]);
        let left: Vec<f64> = laid.corners.iter().map(|(x, _)| x.round()).collect();
        assert_eq!(left, [64.0, 0.0, 128.0, 64.0]);
        assert!(laid.corners[1].1.total_cmp(&laid.corners[2].1).is_eq());
    }

    #[test]
    fn a_long_branch_is_a_straight_line_with_short_ones_beside_it() {
        // 0 → 1 → 2 → 3, and a handler beside each.
        let edges = [edge(0, 1), edge(0, 4), edge(1, 2), edge(1, 5), edge(2, 3), edge(2, 6), edge(3, 7)];
        let laid = lay_out(&[SIZE; 8], &edges);
        let left: Vec<f64> = laid.corners[..4].iter().map(|(x, _)| *x).collect();
        assert!(left.iter().all(|x| (x - left[0]).abs() < 0.1), "{left:?}");
        // A handler is beside the line, not far from it.
        let far = laid.corners[4..].iter().map(|(x, _)| (x - left[0]).abs()).fold(0.0, f64::max);
        assert!(far < 160.0, "{far}");
    }

    #[test]
    fn crossings_that_can_be_avoided_are_avoided() {
        // Declared in an order that crosses: 0 → 3, 1 → 2.
        let plan = {
            let mut plan = Plan::new(&[SIZE; 6], &[edge(0, 3), edge(1, 2), edge(0, 5), edge(1, 4)]);
            plan.order();
            plan
        };
        assert_eq!(plan.crossings(), 0);
    }

    #[test]
    fn a_cycle_is_drawn_without_end() {
        let laid = lay_out(&[SIZE; 3], &[edge(0, 1), edge(1, 0), edge(1, 2)]);
        assert_eq!(laid.corners.len(), 3);
    }

    #[test]
    fn edges_from_everything_to_everything_stay_within_the_budget() {
        let edges: Vec<Edge> = (0..300).flat_map(|to| (0..to).map(move |from| edge(from, to))).collect();
        let plan = Plan::new(&vec![SIZE; 300], &edges);
        assert!(plan.vertices.len() <= 300 + BENDS_MAX, "{}", plan.vertices.len());
    }

    proptest! {
        #[test]
        fn nothing_overlaps_and_edges_lead_down(
            widths in prop::collection::vec((40.0..300.0_f64, 20.0..200.0_f64), 1..25),
            pairs in prop::collection::vec((0..25_usize, 0..25_usize, prop::option::of(20.0..120.0_f64)), 0..40),
        ) {
            let nodes = widths.len();
            let edges: Vec<Edge> = pairs
                .into_iter()
                .map(|(from, to, label)| Edge { from: from % nodes, to: to % nodes, label })
                .filter(|edge| edge.from < edge.to)
                .collect();
            let laid = lay_out(&widths, &edges);
            let mut boxes: Vec<(f64, f64, f64, f64)> = laid
                .corners
                .iter()
                .zip(&widths)
                .map(|((x, y), (width, height))| (*x, *y, x + width, y + height))
                .collect();
            for (route, edge) in laid.routes.iter().zip(&edges) {
                prop_assert!(route.legs.windows(2).all(|pair| pair[0].2 < pair[1].1));
                prop_assert_eq!(route.label.is_some(), edge.label.is_some());
                if let (Some((x, y)), Some(width)) = (route.label, edge.label) {
                    boxes.push((x - width / 2.0, y - LABEL_HEIGHT / 2.0, x + width / 2.0, y + LABEL_HEIGHT / 2.0));
                }
            }
            let apart = 0.01;
            for (at, one) in boxes.iter().enumerate() {
                prop_assert!(one.0 > -apart && one.2 < laid.width + apart && one.3 < laid.height + apart);
                for other in &boxes[at + 1..] {
                    let overlap = one.0 + apart < other.2 && other.0 + apart < one.2 && one.1 + apart < other.3 && other.1 + apart < one.3;
                    prop_assert!(!overlap, "{one:?} {other:?}");
                }
            }
        }
    }
}
