// The control of one field of a specification: a choice, a switch with "default", or a text.
import { errorOf } from "../../forms/FormParts";
import type { Shared } from "../../forms/useForm";
import type { SpecField } from "../../training/fields";
import { Field } from "../../ui/Field";

interface Props extends Shared {
  field: SpecField;
  label?: string;
  hint?: string | undefined;
  // What the server takes where nothing is typed; empty: not known yet.
  fallback: string;
  suggestions?: string[];
}

export function SpecInput({ field, label, hint = field.hint, fallback, suggestions, ...shared }: Props) {
  const { name, kind } = field;
  const value = shared.values[name] ?? "";
  const change = (text: string) => shared.onChange(name, text);
  const list = suggestions === undefined ? undefined : `${name}-suggestions`;
  const options = kind === "flag" ? ["yes", "no"] : field.choices;
  return (
    <Field label={label ?? <code>{name}</code>} hint={hint === "" ? undefined : hint} error={errorOf(shared, name)}>
      {(control) =>
        kind === "choice" || kind === "flag" ? (
          <select {...control} name={name} value={value} onChange={(e) => change(e.target.value)}>
            <option value="">{fallback === "" ? "default" : `default: ${fallback}`}</option>
            {[...new Set(value === "" ? options : [...options, value])].map((option) => (
              <option key={option}>{option}</option>
            ))}
          </select>
        ) : (
          <>
            <input
              {...control}
              name={name}
              className={kind === "text" ? "mono" : undefined}
              list={list}
              spellCheck={false}
              autoComplete="off"
              placeholder={fallback === "" ? "" : `default: ${fallback}`}
              value={value}
              onChange={(e) => change(e.target.value)}
            />
            {suggestions && (
              <datalist id={list}>
                {suggestions.map((suggestion) => (
                  <option key={suggestion} value={suggestion} />
                ))}
              </datalist>
            )}
          </>
        )
      }
    </Field>
  );
}
