// A published recipe to start from, with what it leaves open and where it differs from its source.
import type { Shared } from "../../forms/useForm";
import { errorOf } from "../../forms/FormParts";
import type { Preset } from "../../gen/featurescope/v1/training_pb.js";
import { Field } from "../../ui/Field";
import styles from "./Train.module.css";

export function PresetField({ presets, ...shared }: Shared & { presets: readonly Preset[] }) {
  const name = shared.values["preset"] ?? "";
  const chosen = presets.find((preset) => preset.name === name);
  return (
    <div className={styles.preset}>
      <Field
        label="Recipe"
        hint={chosen === undefined ? "A published recipe whose settings are the defaults of all fields, or this server's own defaults." : undefined}
        error={errorOf(shared, "preset")}
      >
        {(control) => (
          <select {...control} name="preset" value={name} onChange={(e) => shared.onChange("preset", e.target.value)}>
            <option value="">This server's defaults</option>
            {name !== "" && chosen === undefined && <option>{name}</option>}
            {presets.map((preset) => (
              <option key={preset.name} value={preset.name}>
                {preset.name}: {preset.title}
              </option>
            ))}
          </select>
        )}
      </Field>
      {chosen !== undefined && <PresetFacts preset={chosen} />}
    </div>
  );
}

function PresetFacts({ preset }: { preset: Preset }) {
  const rows: [string, string][] = [
    ["Recipe", preset.title],
    ["Source", preset.source],
    ["Made for", [preset.model, preset.hookName].filter((text) => text !== "").join(", ")],
    ["Left to you", preset.open],
    ["Differs", preset.differs],
  ];
  return (
    <dl className={styles.presetFacts} data-testid="preset">
      {rows
        .filter(([, text]) => text !== "")
        .map(([label, text]) => (
          <div key={label}>
            <dt>{label}</dt>
            <dd>{text}</dd>
          </div>
        ))}
    </dl>
  );
}
