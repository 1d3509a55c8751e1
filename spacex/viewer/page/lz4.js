var t=class{static fromConfig(){throw new Error("lz4 is not part of this page")}};export{t as default};
