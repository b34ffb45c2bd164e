// What both job forms are made of: number fields, choices, and the button with the server's answer.
import { useState, type ReactNode } from "react";

import { describeError, violationOf, type ApiError } from "../../api/errors";
import { Button } from "../../ui/Button";
import { ErrorNote } from "../../ui/ErrorNote";
import { Field } from "../../ui/Field";
import styles from "./Jobs.module.css";
import type { FormErrors, FormValues, NumberField } from "./forms";

interface Shared {
  values: FormValues;
  errors: FormErrors;
  failure: ApiError | undefined;
  onChange: (name: string, value: string) => void;
}

function errorOf({ errors, failure }: Shared, name: string): string | undefined {
  return errors[name] ?? violationOf(failure, name);
}

export function NumberFields({ fields, ...shared }: Shared & { fields: NumberField[] }) {
  return fields.map((field) => (
    <Field key={field.name} label={field.label} hint={field.hint} error={errorOf(shared, field.name)}>
      {(control) => (
        <input
          {...control}
          name={field.name}
          inputMode="decimal"
          placeholder={field.unset === undefined ? "" : `default: ${field.unset}`}
          value={shared.values[field.name] ?? ""}
          onChange={(e) => shared.onChange(field.name, e.target.value)}
        />
      )}
    </Field>
  ));
}

interface TextFieldProps extends Shared {
  name: string;
  label: string;
  hint?: string;
  suggestions?: string[];
}

export function TextField({ name, label, hint, suggestions, ...shared }: TextFieldProps) {
  const list = suggestions === undefined ? undefined : `${name}-suggestions`;
  return (
    <Field label={label} hint={hint} error={errorOf(shared, name)}>
      {(control) => (
        <>
          <input
            {...control}
            name={name}
            className="mono"
            list={list}
            spellCheck={false}
            autoComplete="off"
            value={shared.values[name] ?? ""}
            onChange={(e) => shared.onChange(name, e.target.value)}
          />
          {suggestions && (
            <datalist id={list}>
              {suggestions.map((suggestion) => (
                <option key={suggestion} value={suggestion} />
              ))}
            </datalist>
          )}
        </>
      )}
    </Field>
  );
}

export function SelectField({ name, label, options, ...shared }: Shared & { name: string; label: string; options: [string, string][] }) {
  const value = shared.values[name] ?? "";
  return (
    <Field label={label} error={errorOf(shared, name)}>
      {(control) => (
        <select {...control} name={name} value={value} onChange={(e) => shared.onChange(name, e.target.value)}>
          {!options.some(([id]) => id === value) && <option value={value}>{value === "" ? "choose…" : value}</option>}
          {options.map(([id, text]) => (
            <option key={id} value={id}>
              {text}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

// The fields that few need; open as soon as one of them is wrong.
export function MoreSettings({ fields, ...shared }: Shared & { fields: NumberField[] }) {
  const [isOpen, setOpen] = useState(false);
  const isWrong = fields.some((field) => errorOf(shared, field.name) !== undefined);
  return (
    <details open={isOpen || isWrong} onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary>More settings</summary>
      <div className={styles.grid}>
        <NumberFields {...shared} fields={fields} />
      </div>
    </details>
  );
}

// The server's message is shown whole unless all of it already stands at the fields.
export function Submit({ text, busy, error, known, children }: { text: string; busy: boolean; error: unknown; known: string[]; children?: ReactNode }) {
  const failure = error ? describeError(error) : undefined;
  const isAtFields =
    failure !== undefined &&
    failure.violations.length > 0 &&
    failure.violations.every((v) => known.some((name) => v.field === name || v.field.endsWith(`.${name}`)));
  return (
    <>
      {failure && !isAtFields && <ErrorNote error={error} />}
      <div className={styles.submit}>
        <Button look="primary" type="submit" disabled={busy}>
          {busy ? "Submitting…" : text}
        </Button>
        {children}
      </div>
    </>
  );
}
