// The controls of the steering panel: the edit on the first line, the text to write on the second.
import * as Slider from "@radix-ui/react-slider";
import type { ReactNode } from "react";

import { Choice } from "../../../ui/Choice";
import { Field } from "../../../ui/Field";
import { Tip } from "../../../ui/Term";
import { useDraft } from "../../../url/useDraft";
import type { OperationName, UnitName } from "../../../url/links";
import { Messages } from "./Messages";
import styles from "./SteerCard.module.css";
import { sliderRange, takesValue, unitsOf, withOperation, type Steering } from "./steering";

const operation_texts: [OperationName, string][] = [
  ["add", "Add"],
  ["set", "Set"],
  ["scale", "Scale"],
  ["ablate", "Ablate"],
];

const operation_notes: Record<OperationName, string> = {
  add: "Raises the feature's activation by the value: x + value · W_dec[feature].",
  set: "The feature's activation becomes the value, whatever it was.",
  scale: "The feature's activation is multiplied by the value. Where it does not fire, nothing changes.",
  ablate: "The feature's activation becomes 0.",
};

const unit_texts: Record<UnitName, string> = {
  max: "× the feature's max",
  p99: "× the feature's p99",
  feature: "activation units",
  residual: "residual stream norm",
};

interface Props {
  state: Steering;
  largest: number;
  // Whether the model's chat template is known.
  has_chat: boolean;
  onChange: (patch: Partial<Steering>, replace?: boolean) => void;
  onRun: () => void;
  children: ReactNode;
}

export function SteerControls({ state, largest, has_chat, onChange, onRun, children }: Props) {
  const units = unitsOf(state.op);
  const isChat = has_chat && state.chat.length > 0;
  const [prompt, setPrompt, flushPrompt] = useDraft(state.prompt, (text) => onChange({ prompt: text }), 250);
  return (
    <form
      className={styles.controls}
      onSubmit={(event) => {
        event.preventDefault();
        onRun();
      }}
    >
      <div className={styles.row}>
        <div className={styles.group}>
          <span className={styles.label}>
            <Tip text={operation_notes[state.op]}>Operation</Tip>
          </span>
          <Choice
            label="Operation"
            value={state.op}
            options={operation_texts}
            onChange={(op) => onChange(withOperation(state, { op }, largest), false)}
          />
        </div>
        {takesValue(state.op) && <ValueControl state={state} largest={largest} onChange={onChange} />}
        {units.length > 0 && (
          <Field label="Unit">
            {(control) => (
              <select
                {...control}
                value={state.unit}
                onChange={(e) => onChange(withOperation(state, { unit: e.target.value as UnitName }, largest), false)}
              >
                {units.map((unit) => (
                  <option key={unit} value={unit}>
                    {unit_texts[unit]}
                  </option>
                ))}
              </select>
            )}
          </Field>
        )}
        <Field label="Positions">
          {(control) => (
            <select {...control} value={state.pos} onChange={(e) => onChange({ pos: e.target.value as Steering["pos"] }, false)}>
              <option value="all">all</option>
              <option value="prompt">prompt</option>
              <option value="generated">generated</option>
            </select>
          )}
        </Field>
        <div className={styles.group}>
          <span className={styles.label}>
            <Tip text="Kept: what the SAE does not explain of the activation stays as it was. Dropped: the model runs on the SAE's reconstruction.">
              Error term
            </Tip>
          </span>
          <Choice
            label="Error term"
            value={state.err}
            options={[
              ["kept", "Kept"],
              ["dropped", "Dropped"],
            ]}
            onChange={(err) => onChange({ err }, false)}
          />
        </div>
      </div>
      <div className={styles.row}>
        <div className={styles.prompt}>
          {has_chat && (
            <Choice
              label="What is continued"
              value={isChat ? "chat" : "prompt"}
              options={[
                ["prompt", "Prompt"],
                ["chat", "Chat"],
              ]}
              onChange={(mode) => onChange({ chat: mode === "chat" ? [{ role: "user", text: prompt }] : [] }, false)}
            />
          )}
          {isChat ? (
            <Messages messages={state.chat} onChange={(chat) => onChange({ chat })} />
          ) : (
            <Field label="Prompt">
              {(control) => (
                <textarea
                  {...control}
                  className="mono"
                  rows={2}
                  spellCheck={false}
                  value={prompt}
                  onChange={(e) => setPrompt(e.target.value)}
                  onBlur={flushPrompt}
                  onKeyDown={(e) => {
                    if (e.key === "Escape") e.currentTarget.blur();
                  }}
                />
              )}
            </Field>
          )}
        </div>
        <NumberBox label="Temperature" value={state.temp} min={0} max={10} step={0.1} onChange={(temp) => onChange({ temp })} />
        <NumberBox label="Seed" value={state.seed} min={0} max={Number.MAX_SAFE_INTEGER} step={1} onChange={(seed) => onChange({ seed })} />
        <NumberBox label="New tokens" value={state.max} min={1} max={4096} step={1} onChange={(max) => onChange({ max })} />
        <div className={styles.buttons}>{children}</div>
      </div>
    </form>
  );
}

function ValueControl({ state, largest, onChange }: Pick<Props, "state" | "largest" | "onChange">) {
  const range = sliderRange(state.op, state.unit, largest);
  const [value, setValue, flush] = useDraft(state.val, (val) => onChange({ val }), 120);
  const label = state.op === "scale" ? "Factor" : "Value";
  const tidy = (x: number | undefined) => Number((x ?? 0).toPrecision(6));
  return (
    <div className={styles.value}>
      <span className={styles.label}>{label}</span>
      <div>
        <Slider.Root
          className={styles.slider}
          min={range.min}
          max={range.max}
          step={range.step}
          value={[Math.min(range.max, Math.max(range.min, value))]}
          onValueChange={([next]) => setValue(tidy(next))}
          onValueCommit={flush}
        >
          <Slider.Track className={styles.track}>
            <Slider.Range className={styles.range} />
          </Slider.Track>
          <Slider.Thumb className={styles.thumb} aria-label={label} />
        </Slider.Root>
        <input
          type="number"
          aria-label={`${label}, as a number`}
          step="any"
          value={Number.isFinite(value) ? value : ""}
          onChange={(e) => {
            if (Number.isFinite(e.target.valueAsNumber)) setValue(e.target.valueAsNumber);
          }}
          onBlur={flush}
        />
      </div>
    </div>
  );
}

interface NumberBoxProps {
  label: string;
  value: number;
  min: number;
  max: number;
  step: number;
  onChange: (value: number) => void;
}

function NumberBox({ label, value, min, max, step, onChange }: NumberBoxProps) {
  const accepts = (text: string) => {
    const number = Number(text);
    return text.trim() !== "" && number >= min && number <= max && (step < 1 || Number.isSafeInteger(number));
  };
  const [text, setText, flush] = useDraft(String(value), (t) => accepts(t) && onChange(Number(t)), 250);
  const error = accepts(text) ? undefined : max < 1e6 ? `${min} to ${max}` : "not a whole number";
  return (
    <div className={styles.number}>
      <Field label={label} error={error}>
        {(control) => (
          <input {...control} inputMode="decimal" value={text} onChange={(e) => setText(e.target.value)} onBlur={flush} />
        )}
      </Field>
    </div>
  );
}
