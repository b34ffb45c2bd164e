// Every other field of the contract, by its sections, with the contract's own words.
import { useId, useState, type ReactNode } from "react";

import { errorOf, LinesField, TextField } from "../../forms/FormParts";
import type { Shared } from "../../forms/useForm";
import type { ActivationCache } from "../../gen/featurescope/v1/training_pb.js";
import { formatBytes, formatCount } from "../../lib/format";
import { counts, isMain } from "../../training/architectures";
import { spec_fields, type SpecField } from "../../training/fields";
import { splitList } from "../../training/sweep";
import { Field } from "../../ui/Field";
import { SpecInput } from "./SpecInput";
import styles from "./Train.module.css";

const part_names = ["more_corpora", "cache_id", "raw_inputs", "raw_targets", "raw_dtype"];

interface Props extends Shared {
  caches: readonly ActivationCache[];
  fallbackOf: (field: SpecField) => string;
}

export function AllSettings({ caches, fallbackOf, ...shared }: Props) {
  const [isOpen, setOpen] = useState(false);
  const [wanted, setWanted] = useState("");
  const search = useId();
  const chosen = splitList(shared.values["architecture"] ?? "");
  const penalty = shared.values["sparsity_penalty"] ?? "";
  const fields = spec_fields.filter((f) => !isMain(f) && f.name !== "preset" && chosen.some((a) => counts(f, a, penalty)));
  const names = [...fields.map((f) => f.name), ...part_names];
  const n_set = names.filter((name) => (shared.values[name] ?? "") !== "").length;
  const isWrong = names.some((name) => errorOf(shared, name) !== undefined);
  const shown = fields.filter((f) => `${f.name} ${f.hint} ${f.choices.join(" ")}`.toLowerCase().includes(wanted.toLowerCase()));
  const groups = [...new Set(shown.map((f) => f.group))];
  return (
    <details open={isOpen || isWrong} onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary>
        All settings{n_set > 0 && <span className={styles.count}> · {n_set} set</span>}
      </summary>
      {(isOpen || isWrong) && (
        <div className={styles.all}>
          <div className={styles.find}>
            <label htmlFor={search}>Find a setting</label>
            <input id={search} type="search" value={wanted} onChange={(e) => setWanted(e.target.value)} onKeyDown={(e) => e.key === "Enter" && e.preventDefault()} />
          </div>
          {groups.map((group) => (
            <Group key={group} title={titleOf(group)}>
              {group === "run" && wanted === "" && <DataParts caches={caches} {...shared} />}
              {shown
                .filter((f) => f.group === group)
                .map((field) => (
                  <SpecInput key={field.name} {...shared} field={field} fallback={fallbackOf(field)} />
                ))}
            </Group>
          ))}
          {shown.length === 0 && <p className={styles.none}>No setting of this architecture says “{wanted}”.</p>}
        </div>
      )}
    </details>
  );
}

function titleOf(group: string): string {
  if (group === "run") return "Data and size";
  if (group === "topk family") return "TopK family";
  if (group === "jumprelu") return "JumpReLU";
  return group.charAt(0).toUpperCase() + group.slice(1);
}

function Group({ title, children }: { title: string; children: ReactNode }) {
  return (
    <fieldset className={styles.group}>
      <legend>{title}</legend>
      <div className={styles.settings}>{children}</div>
    </fieldset>
  );
}

// Where the activations come from, when it is not one corpus.
function DataParts({ caches, ...shared }: Shared & { caches: readonly ActivationCache[] }) {
  const cache = shared.values["cache_id"] ?? "";
  const hasFiles = (shared.values["raw_inputs"] ?? "").trim() !== "";
  return (
    <>
      <TextField {...shared} name="more_corpora" label="More corpora" hint="A mixture, e.g. code:0.5, books: further corpora with their weights." />
      <Field label="Activations" hint="From the model while it trains, or from an activation cache." error={errorOf(shared, "cache_id")}>
        {(control) => (
          <select {...control} name="cache_id" value={cache} onChange={(e) => shared.onChange("cache_id", e.target.value)}>
            <option value="">{hasFiles ? "the files below" : "the model's, live"}</option>
            {cache !== "" && caches.every((c) => c.id !== cache) && <option>{cache}</option>}
            {caches.map((c) => (
              <option key={c.id} value={c.id}>
                {`${c.id}: ${formatCount(c.nRows)} tokens, ${formatBytes(c.bytes)}`}
              </option>
            ))}
          </select>
        )}
      </Field>
      {cache === "" && (
        <>
          <LinesField {...shared} name="raw_inputs" label="Or raw files of rows [n, width], one path on the server a line" />
          {hasFiles && (
            <>
              <LinesField {...shared} name="raw_targets" label="A transcoder's targets, in the same order" />
              <Field label="Type of the numbers">
                {(control) => (
                  <select {...control} name="raw_dtype" value={shared.values["raw_dtype"] ?? ""} onChange={(e) => shared.onChange("raw_dtype", e.target.value)}>
                    <option value="">default: float16</option>
                    <option>bfloat16</option>
                    <option>float32</option>
                  </select>
                )}
              </Field>
            </>
          )}
        </>
      )}
    </>
  );
}
