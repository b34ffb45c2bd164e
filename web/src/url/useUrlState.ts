// React state that lives in the query string.
//
// Discrete choices are pushed (back undoes them); `replace` is for typing and dragging.
import { useCallback, useMemo } from "react";
import { useSearch } from "wouter";
import { navigate } from "wouter/use-browser-location";

import { decode, encode, type Values } from "./codec";

export type SetUrlState<C> = (patch: Partial<Values<C>>, options?: { replace?: boolean }) => void;

export function useUrlState<C extends object>(codec: C): [Values<C>, SetUrlState<C>] {
  const search = useSearch();
  const state = useMemo(() => decode(codec, search), [codec, search]);
  const set = useCallback<SetUrlState<C>>(
    (patch, options) => {
      const { pathname, search: current } = window.location;
      const query = encode(codec, patch, current);
      if (query === current.replace(/^\?/, "")) return;
      navigate(query === "" ? pathname : `${pathname}?${query}`, { replace: options?.replace ?? false });
    },
    [codec],
  );
  return [state, set];
}
