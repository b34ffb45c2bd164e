// "Random": a feature drawn evenly from all that ever fired, or the next that did.
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useLocation, useSearch } from "wouter";

import { describeError } from "../../api/errors";
import { featureQuery, type Index } from "../../api/queries";
import { Button } from "../../ui/Button";
import { useShortcut } from "../../ui/shortcuts";
import { featureLink } from "../../url/links";
import { siblingLink } from "./state";

export function RandomFeature({ index, d_sae }: { index: Index; d_sae: number }) {
  const queries = useQueryClient();
  const [location, navigate] = useLocation();
  const search = useSearch();
  const [error, setError] = useState<string>();

  const go = async () => {
    const drawn = Math.floor(Math.random() * d_sae);
    try {
      const feature = await queries.fetchQuery(featureQuery(index, drawn));
      const isAlive = (feature.stats?.nActive ?? 0n) > 0n;
      const target = isAlive ? drawn : (feature.nextAlive ?? feature.previousAlive ?? drawn);
      const isSibling = location.startsWith("/f/");
      navigate(
        isSibling ? siblingLink(index.sae, target, search) : featureLink(index.sae, target, { corpus: index.corpus }),
      );
      setError(undefined);
    } catch (cause) {
      setError(describeError(cause).message);
    }
  };

  useShortcut("r", () => void go());
  return (
    <Button onClick={() => void go()} title={error}>
      {error === undefined ? "Random" : "Random failed"} <kbd>r</kbd>
    </Button>
  );
}
