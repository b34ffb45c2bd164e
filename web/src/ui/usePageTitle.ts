// The browser tab's title while a view is shown.
import { useEffect } from "react";

export function usePageTitle(title: string): void {
  useEffect(() => {
    document.title = title === "" ? "Featurescope" : `${title} · Featurescope`;
  }, [title]);
}
