# The official admin page from its npm package, served as it is.
FROM node:20-bookworm-slim AS page
WORKDIR /page
RUN npm install --no-fund --no-audit @socket.io/admin-ui@0.5.1

FROM nginx:1.31-alpine
COPY --from=page /page/node_modules/@socket.io/admin-ui/ui/dist /usr/share/nginx/html
