//! A graph as a diagram in SVG, which no other program has to lay out: in rows, each node below what it reads. (`layout-rs` was
//! looked at: its nets drift to a side, and where one has many branches lines run across boxes.)
//!
//! A line that passes rows has a place in each of them, as boxes have, so none runs through a box. Places are moved towards the
//! mean of what they hang on, downwards and upwards by turns; branches keep their distances, so that a net stays symmetric
//! and its chains straight.

use kinora::model::graph::Graph;

use super::dot::label;

/// Height of a box.
const HEIGHT: f64 = 46.0;
/// Between two rows.
const GAP: f64 = 40.0;
/// Between two places of a row, and around everything.
const SPACE: f64 = 24.0;
/// Width of a letter, about.
const LETTER: f64 = 7.0;
/// How often places are moved; in the first few turns they may also change sides.
const TURNS: usize = 12;
const SORTING_TURNS: usize = 4;

/// Where a box is, or a line that passes a row.
#[derive(Default)]
struct Place {
    row: usize,
    x: f64,
    width: f64,
    /// The node it belongs to: rows are first in the order of nodes.
    owner: usize,
    /// What it hangs on in the row above and in the row below.
    near: [Vec<usize>; 2],
    /// Of either end of the line from a state's next value back to it: the box there.
    beside: Option<usize>,
}

/// The layers of `graph` and what they read, from top to bottom. Dashed: what a state becomes in the next frame.
pub fn svg(graph: &Graph, title: &str) -> String {
    let (places, lines) = lay_out(graph);
    let (top, bottom) = (|p: &Place| SPACE + GAP + p.row as f64 * (HEIGHT + GAP), |y: f64| y + HEIGHT);
    let width = places.iter().fold(LETTER * title.len() as f64, |most, p| most.max(p.x + p.width / 2.0)) + SPACE;
    let height = places.iter().map(top).fold(0.0, f64::max) + HEIGHT + GAP;
    let title = escaped(title);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<title>{title}</title>\n\
         <defs><marker id=\"head\" markerWidth=\"8\" markerHeight=\"8\" refX=\"7\" refY=\"4\" orient=\"auto\">\
         <path d=\"M0 0 8 4 0 8z\"/></marker></defs>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{SPACE}\" y=\"{SPACE}\">{title}</text>\n"
    );
    for (path, dashed) in &lines {
        let (first, last) = (&places[path[0]], path[path.len() - 1]);
        let mut line = format!("M{:.1} {:.1}", first.x, bottom(top(first)));
        for pair in path.windows(2) {
            let (a, b) = (&places[pair[0]], &places[pair[1]]);
            let (upper, lower) = (top(a), bottom(top(a)));
            let (from, bend, to) = match b.row.cmp(&a.row) {
                std::cmp::Ordering::Greater => (lower, lower + GAP / 2.0, top(b)),
                std::cmp::Ordering::Less => (upper, upper - GAP / 2.0, bottom(top(b))),
                std::cmp::Ordering::Equal if pair[1] == last => (upper, upper - 0.7 * GAP, upper),
                std::cmp::Ordering::Equal => (lower, lower + 0.7 * GAP, lower),
            };
            line += &format!("V{from:.1}C{:.1} {bend:.1} {:.1} {bend:.1} {:.1} {to:.1}", a.x, b.x, b.x);
        }
        let dashes = if *dashed { " stroke-dasharray=\"5 4\"" } else { "" };
        text += &format!("<path d=\"{line}\" fill=\"none\" stroke=\"#555\" marker-end=\"url(#head)\"{dashes}/>\n");
    }
    for (node, place) in graph.nodes().iter().zip(&places) {
        let (left, y, width) = (place.x - place.width / 2.0, top(place), place.width);
        text += &format!(
            "<rect x=\"{left:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{HEIGHT}\" fill=\"#f4f4f4\" stroke=\"#222\"/>\n"
        );
        for (part, y) in label(node).iter().zip([y + 15.0, y + 28.0, y + 41.0]) {
            let (x, part) = (place.x, escaped(part));
            text += &format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{part}</text>\n");
        }
    }
    text + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The place of each node, then those of lines; and the lines, each by the places on its way and whether it is dashed.
fn lay_out(graph: &Graph) -> (Vec<Place>, Vec<(Vec<usize>, bool)>) {
    let letters = graph.nodes().iter().flat_map(label).map(|part| part.len()).max().unwrap_or(0);
    let width = LETTER * letters as f64 + SPACE;
    let rows = rows_of(graph);
    let mut places: Vec<Place> =
        rows.iter().enumerate().map(|(owner, &row)| Place { row, width, owner, ..Place::default() }).collect();
    let edges = graph.values().flat_map(|(value, node)| node.inputs.iter().map(move |input| (*input, value, false)));
    let states = graph.states().into_iter().map(|(state, next)| (next, state, true));
    let mut lines = Vec::new();
    for (from, to, dashed) in edges.chain(states) {
        let (from, to) = (from.index(), to.index());
        // A line down hangs on its boxes; one back up goes around them, and they do not follow it.
        let down = rows[to] > rows[from];
        let between = if down { rows[from] + 1..rows[to] } else { rows[to]..rows[from] + 1 };
        let begin = places.len();
        let owner = if down { from } else { to };
        places.extend(between.map(|row| Place { row, owner, ..Place::default() }));
        let mut path: Vec<usize> = (begin..places.len()).collect();
        if down {
            path = [vec![from], path, vec![to]].concat();
        } else {
            places[begin].beside = Some(to);
            places[path[path.len() - 1]].beside = Some(from);
        }
        for pair in path.windows(2) {
            places[pair[0]].near[1].push(pair[1]);
            places[pair[1]].near[0].push(pair[0]);
        }
        if !down {
            path = [vec![from], path.into_iter().rev().collect(), vec![to]].concat();
        }
        lines.push((path, dashed));
    }
    arrange(&mut places, width);
    (places, lines)
}

/// The row of each node: the one below all that it reads; of what no clip reaches, such as states, the last possible.
fn rows_of(graph: &Graph) -> Vec<usize> {
    let mut rows = Vec::<usize>::new();
    let mut reached = Vec::new();
    for (value, node) in graph.values() {
        rows.push(node.inputs.iter().map(|input| rows[input.index()] + 1).max().unwrap_or(0));
        reached.push(value.index() == 0 || node.inputs.iter().any(|input| reached[input.index()]));
    }
    let mut last = vec![usize::MAX; rows.len()];
    for (index, node) in graph.nodes().iter().enumerate().rev() {
        if !reached[index] && last[index] < usize::MAX {
            rows[index] = last[index];
        }
        for input in &node.inputs {
            last[input.index()] = last[input.index()].min(rows[index] - 1);
        }
    }
    rows
}

/// Gives every place its `x`, the first of which is half a box from `SPACE`.
fn arrange(places: &mut [Place], width: f64) {
    let mut rows = vec![Vec::new(); places.iter().map(|place| place.row + 1).max().unwrap_or(0)];
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by_key(|&p| places[p].owner);
    order.iter().for_each(|&p| rows[places[p].row].push((p, 0.0)));
    rows.iter().for_each(|row| settle(places, row));
    for turn in 0..TURNS {
        let (near, far, count) = (turn % 2, 1 - turn % 2, rows.len());
        for number in 0..count {
            let row = &mut rows[if near == 0 { number } else { count - 1 - number }];
            let mean = |list: &[usize]| list.iter().map(|&p| places[p].x).sum::<f64>() / list.len() as f64;
            let wish = |p: usize| {
                let place = &places[p];
                let hung = &place.near[near];
                match place.beside {
                    Some(node) if hung.is_empty() && turn < SORTING_TURNS => {
                        let (x, aside) = (places[node].x, width / 2.0 + SPACE);
                        let x = if place.x > x { x + aside } else { x - aside };
                        (x, x)
                    }
                    _ if hung.is_empty() => (place.x, place.x),
                    _ => {
                        let moved = hung.iter().map(|&h| places[h].x - mean(&places[h].near[far])).sum::<f64>();
                        (mean(hung), place.x + moved / hung.len() as f64)
                    }
                }
            };
            let mut wishes: Vec<(usize, (f64, f64))> = row.iter().map(|&(p, _)| (p, wish(p))).collect();
            if turn < SORTING_TURNS {
                wishes.sort_by(|(_, a), (_, b)| a.0.total_cmp(&b.0));
            }
            *row = wishes.into_iter().map(|(p, (_, x))| (p, x)).collect();
            settle(places, row);
        }
    }
    let left = places.iter().map(|place| place.x - place.width / 2.0).fold(f64::INFINITY, f64::min);
    places.iter_mut().for_each(|place| place.x += SPACE - left);
}

/// Puts the places of a row, in this order and without overlaps, as near to where they are wanted as can be (least squares:
/// those that would overlap move together).
fn settle(places: &mut [Place], row: &[(usize, f64)]) {
    let mut offsets: Vec<f64> = Vec::new();
    let mut groups: Vec<(f64, usize)> = Vec::new();
    for (number, &(p, wanted)) in row.iter().enumerate() {
        let before = |last: f64| last + SPACE + (places[row[number - 1].0].width + places[p].width) / 2.0;
        let offset = offsets.last().map_or(0.0, |last| before(*last));
        offsets.push(offset);
        let mut group = (wanted - offset, 1);
        while let Some((sum, count)) = groups.pop_if(|(sum, n)| *sum * group.1 as f64 >= group.0 * *n as f64) {
            group = (group.0 + sum, group.1 + count);
        }
        groups.push(group);
    }
    let starts = groups.iter().flat_map(|&(sum, count)| std::iter::repeat_n(sum / count as f64, count));
    for ((&(p, _), start), offset) in row.iter().zip(starts).zip(offsets) {
        places[p].x = start + offset;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::arch::Architecture;

    const NETS: [&str; 5] = ["r2plus1d-edge", "i3d-rgb", "resnet3d-50", "convlstm-edge", "convlstm-trailer"];

    fn graph(text: &str) -> Graph {
        text.parse::<Architecture>().unwrap().graph([3, 16, 224, 224], 5).unwrap()
    }

    /// The tags with their attributes, of text in which every element ends, what is in it first.
    fn tags(xml: &str) -> Vec<&str> {
        let (mut open, mut tags) = (Vec::new(), Vec::new());
        for part in xml.split('<').skip(1) {
            let (tag, content) = part.split_once('>').expect(part);
            assert!(!content.contains('>'), "{part}");
            assert!(content.split('&').skip(1).all(|rest| rest.contains(';')), "{part}");
            let name = tag.split_whitespace().next().unwrap();
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name)),
                None => {
                    assert!(tag.matches('"').count() % 2 == 0, "{tag}");
                    tags.push(tag);
                    open.extend((!tag.ends_with('/')).then_some(name));
                }
            }
        }
        assert!(open.is_empty(), "{open:?}");
        tags
    }

    #[test]
    fn every_layer_and_edge_is_there() {
        for text in NETS {
            let graph = graph(text);
            let diagram = svg(&graph, text);
            let tags = tags(&diagram);
            let count = |wanted: &str| tags.iter().filter(|tag| tag.contains(wanted)).count();
            let edges: usize = graph.nodes().iter().map(|node| node.inputs.len()).sum();
            assert_eq!(count("marker-end"), edges + graph.states().len(), "{text}");
            assert_eq!(count("stroke-dasharray"), graph.states().len(), "{text}");
            assert_eq!(count("rect x="), graph.nodes().len(), "{text}");
            assert!(graph.nodes().iter().all(|node| diagram.contains(&format!(">{}</text>", node.name))), "{text}");
        }
    }

    /// Nor does a line pass a box: its places are beside them.
    #[test]
    fn no_two_places_overlap() {
        for text in NETS {
            let (mut places, lines) = lay_out(&graph(text));
            for (path, dashed) in lines {
                let steps = path.windows(2).map(|pair| places[pair[0]].row.abs_diff(places[pair[1]].row));
                assert!(steps.max() == Some(1), "{text}: a line leaves a row out");
                assert!(dashed || places[path[0]].row < places[path[path.len() - 1]].row, "{text}: upwards");
            }
            places.sort_by(|a, b| a.row.cmp(&b.row).then(a.x.total_cmp(&b.x)));
            for pair in places.windows(2).filter(|pair| pair[0].row == pair[1].row) {
                let apart = pair[1].x - pair[0].x - (pair[0].width + pair[1].width) / 2.0;
                assert!(apart > SPACE - 1e-6, "{text}: {apart} between places of row {}", pair[0].row);
            }
        }
    }

    /// The net's ends are in the middle of its branches.
    #[test]
    fn a_net_does_not_drift() {
        let graph = graph("i3d-rgb");
        let (places, _) = lay_out(&graph);
        let middle = |name: &str| places[graph.nodes().iter().position(|node| node.name == name).unwrap()].x;
        for name in ["3a.pool", "3c", "4f", "head"] {
            assert!((middle(name) - middle("clip")).abs() < 1e-6, "{name}");
        }
    }

    #[test]
    fn text_is_escaped() {
        let (mut graph, clip) = Graph::new([1, 1, 1, 1]);
        graph.push("a<b>&c", kinora::model::graph::Op::Unary(kinora::model::graph::Unary::Tanh), &[clip]).unwrap();
        let diagram = svg(&graph, "<&>");
        tags(&diagram);
        assert!(diagram.contains(">a&lt;b&gt;&amp;c<") && diagram.contains("<title>&lt;&amp;&gt;</title>"));
    }
}
