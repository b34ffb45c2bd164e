// The architectures that are trained, and which fields count for which.
import { specField, type SpecField } from "./fields";

export type Family = "relu" | "topk" | "batchtopk" | "matryoshka" | "jumprelu" | "gated";

const labels: Record<string, string> = {
  standard: "Standard (ReLU, L1)",
  topk: "TopK",
  batchtopk: "BatchTopK",
  matryoshka_batchtopk: "Matryoshka BatchTopK",
  jumprelu: "JumpReLU",
  gated: "Gated",
  transcoder: "Transcoder (ReLU, L1)",
  skip_transcoder: "Skip transcoder (ReLU, L1)",
  topk_transcoder: "TopK transcoder",
  topk_skip_transcoder: "TopK skip transcoder",
  jumprelu_transcoder: "JumpReLU transcoder",
  jumprelu_skip_transcoder: "JumpReLU skip transcoder",
};

export const architectures: readonly string[] = specField("architecture").choices;

export function architectureLabel(name: string): string {
  return labels[name] ?? name;
}

export function familyOf(architecture: string): Family {
  if (architecture === "matryoshka_batchtopk") return "matryoshka";
  const [first] = architecture.split("_");
  return first === "topk" || first === "batchtopk" || first === "jumprelu" || first === "gated" ? first : "relu";
}

export function isTranscoder(architecture: string): boolean {
  return architecture.endsWith("transcoder");
}

const isTopK = (family: Family) => family === "topk" || family === "batchtopk" || family === "matryoshka";

// Whether a field means anything for an architecture; `penalty` is the sparsity penalty that was chosen.
export function counts(field: SpecField, architecture: string, penalty = ""): boolean {
  const family = familyOf(architecture);
  const { name, group } = field;
  if (name === "hook_name_out") return isTranscoder(architecture);
  if (name === "k" || group === "topk family") {
    if (name.startsWith("threshold_")) return family === "batchtopk" || family === "matryoshka";
    if (name.startsWith("group_")) return family === "matryoshka";
    return isTopK(family);
  }
  if (group === "jumprelu") return family === "jumprelu";
  if (group === "gated") return family === "gated";
  if (name === "l1_coefficient") return penalty === "l1" || penalty === "tanh" || (!isTopK(family) && family !== "jumprelu");
  return true;
}

const of_every_run = ["sae_id", "model_id", "corpus_id", "hook_name", "architecture", "d_sae", "tokens", "batch_size", "learning_rate", "seed"];
const of_some = ["hook_name_out", "k", "l1_coefficient", "l0_coefficient", "target_l0"];

// The fields that one thinks about first; all others are under "All settings".
export function isMain(field: SpecField): boolean {
  return of_every_run.includes(field.name) || of_some.includes(field.name);
}
