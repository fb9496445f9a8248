//! Writes a graph as a Mermaid flowchart, which many renderers of Markdown draw.

use std::fmt::Write;

use super::{Graph, Lane, Node, text::clean};

/// The flowchart. Containers are subgraphs; a branch is a subgraph in its container.
pub fn mermaid(graph: &Graph) -> String {
    let mut out = String::from("flowchart TD\n");
    // Blocks that are still to be written, the next one last; a walk without recursion.
    let mut open: Vec<Part<'_>> = vec![Part::Lane(&graph.root)];
    let mut links = String::new();
    let mut depth = 1;
    while let Some(part) = open.pop() {
        let indent = "  ".repeat(depth);
        // Writing to a String cannot fail.
        let _ = match part {
            Part::End => {
                depth -= 1;
                writeln!(out, "{}end", "  ".repeat(depth))
            }
            Part::Lane(lane) => {
                write_links(&mut links, graph, lane);
                open.extend(lane.nodes.iter().rev().map(|node| Part::Node(&graph.nodes[*node])));
                Ok(())
            }
            Part::Branch(id, label, lane) => {
                open.extend([Part::End, Part::Lane(lane)]);
                depth += 1;
                writeln!(out, "{indent}subgraph {id}[\"{}\"]", escaped(label))
            }
            Part::Node(node) if node.is_container() => {
                open.push(Part::End);
                for (number, lane) in node.lanes.iter().enumerate().rev() {
                    open.push(match &lane.label {
                        Some(label) => Part::Branch(format!("{}_{number}", node.id), label, lane),
                        None => Part::Lane(lane),
                    });
                }
                depth += 1;
                writeln!(out, "{indent}subgraph {}[\"{}\"]", node.id, title(node))
            }
            Part::Node(node) if node.is_trigger => {
                writeln!(out, "{indent}{}([\"{}\"])", node.id, title(node))
            }
            Part::Node(node) => writeln!(out, "{indent}{}[\"{}\"]", node.id, title(node)),
        };
    }
    out + &links
}

enum Part<'g> {
    Node(&'g Node),
    Lane(&'g Lane),
    Branch(String, &'g str, &'g Lane),
    End,
}

fn write_links(out: &mut String, graph: &Graph, lane: &Lane) {
    for link in &lane.links {
        let id = |position: usize| &graph.nodes[lane.nodes[position]].id;
        let label = link.when.as_ref().map(|when| format!("|\"{}\"|", escaped(when))).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  {} -->{label} {}", id(link.from), id(link.to));
    }
}

fn title(node: &Node) -> String {
    format!("{}<br>{}", escaped(&clean(&node.name)), escaped(&node.caption))
}

/// Letters, digits, spaces and a few harmless characters; all others as character codes, which have no meaning to Mermaid.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_alphanumeric() || " _-.,=".contains(character) {
            out.push(character);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "#{};", u32::from(character));
        }
    }
    out
}
