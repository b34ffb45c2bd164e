// One architecture, or several of them for a sweep.
import { useState } from "react";

import { errorOf } from "../../forms/FormParts";
import type { Shared } from "../../forms/useForm";
import { architectureLabel, architectures } from "../../training/architectures";
import { splitList } from "../../training/sweep";
import { Button } from "../../ui/Button";
import { Field } from "../../ui/Field";
import styles from "./Train.module.css";

export function ArchitectureField(shared: Shared) {
  const chosen = splitList(shared.values["architecture"] ?? "");
  const [isSeveral, setSeveral] = useState(false);
  const change = (names: readonly string[]) => shared.onChange("architecture", names.join(","));
  if (isSeveral || chosen.length > 1) {
    return (
      <fieldset className={styles.several}>
        <legend>Architectures</legend>
        {architectures.map((name) => (
          <label key={name}>
            <input
              type="checkbox"
              checked={chosen.includes(name)}
              disabled={chosen.length === 1 && chosen[0] === name}
              onChange={(e) => change(architectures.filter((a) => (a === name ? e.target.checked : chosen.includes(a))))}
            />
            {architectureLabel(name)}
          </label>
        ))}
        <Button
          onClick={() => {
            setSeveral(false);
            change(chosen.slice(0, 1));
          }}
        >
          Only one
        </Button>
      </fieldset>
    );
  }
  const value = chosen[0] ?? "";
  return (
    <Field label="Architecture" error={errorOf(shared, "architecture")}>
      {(control) => (
        <div className={styles.withButton}>
          <select {...control} name="architecture" value={value} onChange={(e) => change([e.target.value])}>
            {[...new Set([...architectures, value])].map((name) => (
              <option key={name} value={name}>
                {architectureLabel(name)}
              </option>
            ))}
          </select>
          <Button onClick={() => setSeveral(true)}>Several…</Button>
        </div>
      )}
    </Field>
  );
}
