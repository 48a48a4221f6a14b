import type { route } from './route.ts';
import type { TaskDeps } from './tasks.ts';

export const codeRoutes = (_deps: TaskDeps): ReturnType<typeof route>[] => [];
