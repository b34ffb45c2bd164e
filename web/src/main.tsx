// Entry point: theme, shortcuts, query cache, and the app.
import "@fontsource-variable/inter/wght.css";
import "@fontsource-variable/jetbrains-mono/wght.css";
import "./styles/tokens.css";
import "./styles/base.css";

import { Code, ConnectError } from "@connectrpc/connect";
import * as Tooltip from "@radix-ui/react-tooltip";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { App } from "./App";
import { installHeatScale } from "./lib/colour";
import { startShortcuts } from "./ui/shortcuts";
import { startTheme } from "./ui/theme";

// Only what may pass by itself is tried again; a wrong request stays wrong.
function mayPass(failures: number, error: unknown): boolean {
  const code = ConnectError.from(error).code;
  return failures < 2 && (code === Code.Unavailable || code === Code.ResourceExhausted);
}

const queries = new QueryClient({
  defaultOptions: { queries: { retry: mayPass, staleTime: 5_000, refetchOnWindowFocus: false } },
});

startTheme();
startShortcuts();
installHeatScale(document.documentElement);

createRoot(document.getElementById("root") as HTMLElement).render(
  <StrictMode>
    <QueryClientProvider client={queries}>
      <Tooltip.Provider delayDuration={150}>
        <App />
      </Tooltip.Provider>
    </QueryClientProvider>
  </StrictMode>,
);
