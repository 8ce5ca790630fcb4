//! Figure 1: the method, from gradient to step. The equations are those of the default configuration.

use anyhow::Result;

use super::table::csv;
use super::{Figure, Scale};
use crate::draw::canvas;
use crate::draw::diagram::{Arrow, Diagram, Lane, Node, Side};
use crate::draw::equation::Equation;
use crate::draw::theme::{self, PANEL_WIDTH};

const HEIGHT: f64 = 1814.0;

/// Draws the figure; it needs no runs.
pub(crate) fn draw(scale: Scale) -> Result<Figure> {
    let diagram = diagram()?;
    let title = "Figure 1: one step of NeuroPlastic";
    let drawing = canvas::page(title, (PANEL_WIDTH, HEIGHT), |canvas| diagram.draw(canvas, 30.0, PANEL_WIDTH - 30.0))?;
    Ok(Figure { name: "fig1", drawing, table: table(&diagram), caption: caption(scale) })
}

fn diagram() -> Result<Diagram> {
    use Side::{Bottom, Left, Right, Top};
    let (full, gradient_only) = (Some(theme::arm("full")?.colour), Some(theme::arm("gradient-only")?.colour));
    let lane = |name, notes, top, height| Lane { name, notes, top, height };
    let node = |id, place, title, lines, colour| Node { id, place, title, lines, colour };
    let arrow = |from, corners, to, colour| Arrow { from, corners, to, colour };
    Ok(Diagram {
        lanes: vec![
            lane("Traces", &["per element"], 30.0, 236.0),
            lane("Signals", &["N(x) = x /", "(mean(x) + ε)"], 306.0, 180.0),
            lane("Coefficient", &["per element"], 526.0, 380.0),
            lane("Formulation", &[], 946.0, 350.0),
            lane("Stabiliser", &["after decay;", "per tensor"], 1336.0, 236.0),
            lane("Update", &[], 1612.0, 172.0),
        ],
        nodes: vec![
            node("g", [340.0, 55.0, 290.0, 186.0], "gradient", &["g = ∂L/∂θ"], None),
            node("a", [755.0, 111.0, 510.0, 130.0], "activity", &["a ← 0.95 a + 0.05 |g|"], None),
            node(
                "mv",
                [1340.0, 55.0, 470.0, 186.0],
                "momentum and variance",
                &["m ← 0.9 m + 0.1 g", "v ← 0.99 v + 0.01 g^2"],
                None,
            ),
            node("gs", [420.0, 331.0, 290.0, 130.0], "gradient signal", &[r"\hat{g} = N(|g|)"], None),
            node("as", [865.0, 331.0, 290.0, 130.0], "activity signal", &[r"\hat{a} = N(a)"], None),
            node("ms", [1340.0, 331.0, 470.0, 130.0], "memory signal", &[r"\hat{m} = N(|m| / (√v + ε))"], None),
            node(
                "alpha-g",
                [420.0, 551.0, 475.0, 130.0],
                "gradient-only",
                &[r"α_g = clip(\hat{g}, α_{min}, α_{max})"],
                gradient_only,
            ),
            node(
                "alpha-f",
                [965.0, 551.0, 845.0, 130.0],
                "full rule",
                &[r"α_f = clip(w_a \hat{a} + w_g \hat{g} + w_m \hat{m}, α_{min}, α_{max})"],
                full,
            ),
            node(
                "alpha",
                [420.0, 751.0, 1390.0, 130.0],
                "blend: the warm-up gate ρ rises from 0 to 1; in the gradient-only ablation it stays 0",
                &["α = α_g + ρ s (α_f − α_g)"],
                None,
            ),
            node(
                "u",
                [340.0, 1028.0, 690.0, 186.0],
                "direct; or bounded, orthogonal, hybrid",
                &["u = α_g ⊙ g + (α − α_g) ⊙ g", "= α ⊙ g"],
                None,
            ),
            node(
                "controller",
                [1090.0, 971.0, 720.0, 300.0],
                "controller from α and α_g, off by default",
                &[
                    "ζ = mean(log(α / α_g))",
                    r"\bar{ζ} = mean of ζ over tensors",
                    r"c = clip(1 + k \bar{ζ}, 0.8, 1.2)",
                    "η_{eff} = c η",
                ],
                None,
            ),
            node("decay", [340.0, 1361.0, 320.0, 186.0], "weight decay", &["u ← u + λθ"], None),
            node("clip", [730.0, 1361.0, 400.0, 186.0], "norm clip", &["if ‖u‖ > U:", "u ← u U / (‖u‖ + ε)"], None),
            node(
                "gain",
                [1200.0, 1361.0, 520.0, 186.0],
                "RMS gain, 0.5 to 1.5",
                &["r = √(mean(u^2) + ε)", "G = clip(1 + τ (Rℓ − r))"],
                None,
            ),
            node("theta", [900.0, 1633.0, 560.0, 130.0], "step", &["θ ← θ − η_{eff} G u"], None),
        ],
        arrows: vec![
            arrow(("g", Right, 176.0), &[], ("a", Left, 176.0), None),
            arrow(("g", Right, 83.0), &[], ("mv", Left, 83.0), None),
            arrow(("g", Bottom, 565.0), &[], ("gs", Top, 565.0), None),
            arrow(("g", Bottom, 380.0), &[], ("u", Top, 380.0), None),
            arrow(("a", Bottom, 1010.0), &[], ("as", Top, 1010.0), None),
            arrow(("mv", Bottom, 1575.0), &[], ("ms", Top, 1575.0), None),
            arrow(("gs", Bottom, 565.0), &[], ("alpha-g", Top, 565.0), gradient_only),
            arrow(
                ("gs", Bottom, 650.0),
                &[(650.0, 506.0), (928.0, 506.0), (928.0, 616.0)],
                ("alpha-f", Left, 616.0),
                full,
            ),
            arrow(("as", Bottom, 1010.0), &[], ("alpha-f", Top, 1010.0), full),
            arrow(("ms", Bottom, 1575.0), &[], ("alpha-f", Top, 1575.0), full),
            arrow(("alpha-g", Bottom, 660.0), &[], ("alpha", Top, 660.0), gradient_only),
            arrow(("alpha-f", Bottom, 1388.0), &[], ("alpha", Top, 1388.0), full),
            arrow(("alpha", Bottom, 765.0), &[], ("u", Top, 765.0), None),
            arrow(("alpha", Bottom, 1495.0), &[], ("controller", Top, 1495.0), None),
            arrow(("u", Bottom, 500.0), &[], ("decay", Top, 500.0), None),
            arrow(("decay", Right, 1454.0), &[], ("clip", Left, 1454.0), None),
            arrow(("clip", Right, 1454.0), &[], ("gain", Left, 1454.0), None),
            arrow(("gain", Bottom, 1330.0), &[], ("theta", Top, 1330.0), None),
            arrow(("controller", Bottom, 1765.0), &[(1765.0, 1698.0)], ("theta", Right, 1698.0), None),
        ],
    })
}

fn table(diagram: &Diagram) -> String {
    let mut rows = vec![["kind", "id", "lane", "title", "equation", "from", "to"].map(String::from).to_vec()];
    for lane in &diagram.lanes {
        let notes: Vec<String> = lane.notes.iter().map(|note| Equation::parse(note).plain()).collect();
        rows.push(["lane", "", lane.name, "", &notes.join(" "), "", ""].map(String::from).to_vec());
    }
    for node in &diagram.nodes {
        for line in node.lines {
            let (lane, equation) = (diagram.lane_of(node), Equation::parse(line).plain());
            rows.push(["box", node.id, lane, node.title, &equation, "", ""].map(String::from).to_vec());
        }
    }
    for arrow in &diagram.arrows {
        rows.push(["arrow", "", "", "", "", arrow.from.0, arrow.to.0].map(String::from).to_vec());
    }
    csv(&rows)
}

fn caption(scale: Scale) -> String {
    format!(
        "**Figure 1. One step of NeuroPlastic for one parameter tensor θ with gradient g.** Exponential traces of the \
gradient's magnitude (a), the gradient (m) and its square (v) give three signals, each divided by its own mean over the tensor. \
Their weighted sum, clipped to [α_min, α_max], is the full rule's coefficient α_f (blue); the normalised gradient alone gives that \
of the gradient-only ablation, α_g (vermillion). The warm-up gate ρ and the plasticity scale s blend the two, and the \
blend is not clipped again. The direct formulation multiplies the gradient by α; bounded residual, orthogonal \
residual and hybrid formulations take its place. The update is then held to the norm U and multiplied by a gain that pulls its \
root mean square r towards R ℓ, ℓ by the tensor's depth. The controller, which is off by default (c = 1), scales the \
learning rate by the mean over tensors of the log-ratio of the coefficients. ⊙ and | | act element by element; mean and \
‖ ‖ are over the tensor.\n\
\n\
Defaults: w_a, w_g, w_m = 0.4, 0.4, 0.2; α_min, α_max = 0.2, 2; s = 1; U = 1; R = 0.02; τ = 0.01; k = 0.1; ε = 1e-8; G is \
clipped to [0.5, 1.5]; weight decay λ is coupled, and 0 by default. All traces start at zero and have no bias correction.\n\
\n\
Drawn without data. Redraw: `cargo xtask figures --scale {scale} --only 1`\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_box_is_reached_or_left_and_lies_in_a_lane() {
        let diagram = diagram().unwrap();
        for node in &diagram.nodes {
            let joined = diagram.arrows.iter().any(|arrow| arrow.from.0 == node.id || arrow.to.0 == node.id);
            assert!(joined && !diagram.lane_of(node).is_empty(), "{}", node.id);
        }
    }

    #[test]
    fn no_text_is_near_the_edge_of_its_box() {
        let diagram = diagram().unwrap();
        for node in &diagram.nodes {
            let room = node.place[2] - node.text_width();
            assert!(room >= 30.0, "{}: {room} pixels to spare", node.id);
        }
    }

    #[test]
    fn the_table_lists_boxes_and_arrows() {
        let table = draw(Scale::Quick).unwrap().table;
        assert!(table.starts_with("kind,id,lane,title,equation,from,to\n"));
        assert!(table.contains("box,alpha,Coefficient,"));
        assert!(table.contains(",α = α_g + ρ s (α_f − α_g),,\n"), "{table}");
        assert_eq!(table.matches("\narrow,").count(), 19);
    }
}
