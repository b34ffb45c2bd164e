// A form's life: what was typed, what is wrong with it, and what the server says.
import { useMutation } from "@tanstack/react-query";
import { useMemo, useState, type FormEvent } from "react";

import { describeError, type ApiError } from "../api/errors";
import { useUrlState } from "../url/useUrlState";
import { newKey, type FormErrors, type FormValues, type textParams, type TypedValues } from "./fields";

// What every field of a form is given.
export interface Shared {
  values: FormValues;
  errors: FormErrors;
  failure: ApiError | undefined;
  onChange: (name: string, value: string) => void;
}

interface Options<Answer> {
  codec: ReturnType<typeof textParams>;
  // All values, with defaults where nothing was typed.
  complete: (typed: TypedValues) => FormValues;
  check: (values: FormValues) => FormErrors;
  // `key` is the same as long as the values are.
  send: (values: FormValues, key: string) => Promise<Answer>;
  done: (answer: Answer) => void;
}

export function useForm<Answer>({ codec, complete, check, send, done }: Options<Answer>) {
  const [typed, set] = useUrlState(codec);
  const [isChecked, setChecked] = useState(false);
  const values = complete(typed);
  const text = JSON.stringify(values);
  const key = useMemo(() => ({ of: text, key: newKey() }).key, [text]);
  const submit = useMutation({ mutationFn: () => send(values, key), onSuccess: done });
  const errors = check(values);
  const shared: Shared = {
    values,
    errors: isChecked ? errors : {},
    failure: submit.error ? describeError(submit.error) : undefined,
    onChange: (name, value) => {
      submit.reset();
      set({ [name]: value }, { replace: true });
    },
  };
  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    setChecked(true);
    if (Object.keys(errors).length === 0) submit.mutate();
  };
  return { values, shared, form: { busy: submit.isPending, error: submit.error, known: Object.keys(codec), onSubmit } };
}
