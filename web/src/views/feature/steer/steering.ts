// The steering panel's state in the URL, and the request it stands for.
import type { GenerationRequest } from "../../../generate/useGeneration";
import { Positions_Scope } from "../../../gen/featurescope/v1/explore_pb.js";
import { choiceParam, flagParam, intParam, numberParam, textParam, type Param, type Values } from "../../../url/codec";
import { error_terms, operations, units, type OperationName, type UnitName } from "../../../url/links";

export const scopes = {
  all: Positions_Scope.ALL,
  prompt: Positions_Scope.PROMPT,
  generated: Positions_Scope.GENERATED,
} as const;

export const roles = ["system", "user", "assistant"] as const;
export type Role = (typeof roles)[number];
export interface Message {
  role: Role;
  text: string;
}

// A conversation as JSON: [["user","Hello"], ...]; empty: there is a prompt in its place.
export function messagesParam(): Param<Message[]> {
  return {
    parse: (raw) => {
      try {
        const found: unknown = JSON.parse(raw ?? "[]");
        if (!Array.isArray(found)) return [];
        return found.flatMap((entry: unknown) => {
          const [role, text] = Array.isArray(entry) ? (entry as unknown[]) : [];
          const known = roles.find((r) => r === role);
          return known !== undefined && typeof text === "string" ? [{ role: known, text }] : [];
        });
      } catch {
        return [];
      }
    },
    format: (messages) => (messages.length === 0 ? null : JSON.stringify(messages.map(({ role, text }) => [role, text]))),
  };
}

export const steeringCodec = {
  // Whether the panel is open, and whether the text was asked for: then it is made again on a reload.
  steer: flagParam(),
  run: flagParam(),
  op: choiceParam(["add", "set", "scale", "ablate"], "add"),
  val: numberParam(1),
  unit: choiceParam(["max", "p99", "feature", "residual"], "max"),
  pos: choiceParam(["all", "prompt", "generated"], "all"),
  err: choiceParam(["kept", "dropped"], "kept"),
  temp: numberParam(0.7, { min: 0, max: 10 }),
  seed: intParam(1, { min: 0 }),
  max: intParam(48, { min: 1, max: 4096 }),
  prompt: textParam("It was"),
  chat: messagesParam(),
};

export type Steering = Values<typeof steeringCodec>;

export function takesValue(op: OperationName): boolean {
  return op !== "ablate";
}

// The units that an operation accepts; none for a factor and for ablation.
export function unitsOf(op: OperationName): UnitName[] {
  if (op === "add") return ["max", "p99", "feature", "residual"];
  if (op === "set") return ["max", "p99", "feature"];
  return [];
}

export interface SliderRange {
  min: number;
  max: number;
  step: number;
  // A good value to begin with.
  start: number;
}

// A sensible slider for an operation and a unit; the number box accepts more. `largest` is the feature's
// largest measured activation.
export function sliderRange(op: OperationName, unit: UnitName, largest: number): SliderRange {
  if (op === "scale") return { min: -4, max: 8, step: 0.1, start: 2 };
  const low = op === "set" ? 0 : -1;
  if (unit === "max" || unit === "p99") return { min: low * 4, max: 4, step: 0.05, start: 1 };
  if (unit === "residual") return { min: -40, max: 40, step: 0.5, start: 10 };
  const top = largest > 0 ? roundUp(4 * largest) : 10;
  return { min: low * top, max: top, step: top / 100, start: largest > 0 ? Number(largest.toPrecision(3)) : 1 };
}

// To 1, 2 or 5 times a power of ten.
function roundUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  const factor = [1, 2, 5, 10].find((f) => f * power >= value) ?? 10;
  return Number((factor * power).toPrecision(1));
}

// After another operation or unit was chosen: a unit that fits, and a value that makes sense in it.
export function withOperation(state: Steering, patch: { op?: OperationName; unit?: UnitName }, largest: number): Partial<Steering> {
  const op = patch.op ?? state.op;
  const allowed = unitsOf(op);
  const wanted = patch.unit ?? state.unit;
  const unit = allowed.includes(wanted) ? wanted : (allowed[0] ?? state.unit);
  const sameMeasure = unit === state.unit && (op === "scale") === (state.op === "scale") && takesValue(state.op);
  return { op, unit, val: sameMeasure ? state.val : sliderRange(op, unit, largest).start };
}

export function toRequest(model: string, sae: string, feature: number, state: Steering): GenerationRequest {
  return {
    modelId: model,
    ...(state.chat.length > 0
      ? { messages: state.chat.map(({ role, text }) => ({ role, content: text })) }
      : { prompt: { input: { case: "text" as const, value: new TextEncoder().encode(state.prompt) } } }),
    maxNewTokens: state.max,
    sampling: { temperature: state.temp, seed: BigInt(state.seed) },
    interventions: [
      {
        saeId: sae,
        feature,
        operation: operations[state.op],
        value: takesValue(state.op) ? state.val : 0,
        unit: unitsOf(state.op).length > 0 ? units[state.unit] : units.feature,
        errorTerm: error_terms[state.err],
        positions: { scope: scopes[state.pos] },
      },
    ],
    withBaseline: true,
    topLogprobs: 5,
  };
}
