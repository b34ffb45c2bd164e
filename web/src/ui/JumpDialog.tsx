// "Go to": an SAE and a feature number. Opens with the SAE that is on screen.
import { useQuery } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { useLocation, useSearch } from "wouter";

import { saesQuery } from "../api/queries";
import { featureLink } from "../url/links";
import { Button } from "./Button";
import { ErrorNote } from "./ErrorNote";
import { Field } from "./Field";
import styles from "./JumpDialog.module.css";
import { Modal } from "./Modal";

export function JumpDialog({ onClose }: { onClose: () => void }) {
  const saes = useQuery(saesQuery);
  const [location, navigate] = useLocation();
  const query = new URLSearchParams(useSearch());
  const onScreen = /^\/(?:sae|f)\/([^/]+)/.exec(location)?.[1];
  const [chosen, setChosen] = useState<string | undefined>(
    onScreen !== undefined ? onScreen : (query.get("sae") ?? undefined),
  );
  const [number, setNumber] = useState("");
  const [error, setError] = useState<string>();
  const sae = saes.data?.find((s) => s.id === chosen) ?? saes.data?.[0];

  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (sae === undefined) return;
    const feature = Number(number);
    if (!/^\d+$/.test(number.trim()) || feature >= sae.dSae) {
      setError(`a whole number from 0 to ${sae.dSae - 1}`);
      return;
    }
    const corpus = sae.id === chosen ? (query.get("corpus") ?? undefined) : undefined;
    onClose();
    navigate(featureLink(sae.id, feature, { corpus }));
  };

  return (
    <Modal title="Go to a feature" onClose={onClose}>
      {saes.isError && <ErrorNote error={saes.error} />}
      <form className={styles.form} onSubmit={submit} noValidate>
        <Field label="SAE">
          {(control) => (
            <select {...control} value={sae?.id ?? ""} onChange={(e) => setChosen(e.target.value)}>
              {saes.data?.map((s) => <option key={s.id}>{s.id}</option>)}
            </select>
          )}
        </Field>
        <Field label="Feature" error={error}>
          {(control) => (
            <input
              {...control}
              autoFocus
              inputMode="numeric"
              placeholder={sae ? `0 to ${sae.dSae - 1}` : ""}
              value={number}
              onChange={(e) => {
                setNumber(e.target.value);
                setError(undefined);
              }}
            />
          )}
        </Field>
        <Button look="primary" type="submit" disabled={sae === undefined}>
          Go
        </Button>
      </form>
    </Modal>
  );
}
